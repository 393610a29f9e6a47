/* A batch normalization in C, examined through the protocol of bnkit/conformance/program.py:
   cc -O2 -o batch_norm adapters/batch_norm.c -lm
   python -m bnkit.conformance --program ./batch_norm --momentum 0.1 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef REAL
#define REAL double
#endif

static REAL *numbers(const char *name, int count) { /* "name": [1, 2, ...], of at most `count` */
    REAL *values = calloc(count + 1, sizeof *values);
    char key[16], *left = scanf(" \"%15[^\"]\": [", key) == 1 && !strcmp(key, name) ? key : NULL;
    double value;
    for (int i = 0; left && scanf("%lf%*[, ]", &value) == 1; i++) values[i] = value, left[0] = 0;
    scanf("]%*[,}]");
    if (count && left && left[0]) { free(values); return NULL; } /* an empty list: absent */
    return values;
}
static void print(const char *name, const REAL *values, int count, const char *end) {
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++) printf("%s%.17g", i ? ", " : "", (double)values[i]);
    printf("]%s", end);
}
int main(void) {
    char call[8];
    int n, c, p; /* examples, channels, places */
    while (scanf(" {\"call\": \"%7[^\"]\", \"dtype\": %*[^,], \"examples\": %d, \"channels\": %d,"
                 " \"places\": %d,", call, &n, &c, &p) == 4) {
        REAL *gamma = numbers("gamma", c), *beta = numbers("beta", c), *mean = numbers("mean", c);
        REAL *var = numbers("var", c), *x = numbers("x", n * c * p), *dy = numbers("dy", n * c * p);
        REAL *dgamma = calloc(c, sizeof *x), *dbeta = calloc(c, sizeof *x);
        int m = n * p, train = !strcmp(call, "step"), fresh = !mean;
        if (fresh) mean = calloc(c, sizeof *x), var = calloc(c, sizeof *x);
        for (int k = 0; k < c; k++) {
#define EACH for (int e = 0; e < n; e++) for (int i = (e * c + k) * p; i < (e * c + k + 1) * p; i++)
            REAL mu = 0, v = 0, g = gamma ? gamma[k] : 1, b = beta ? beta[k] : 0;
            if (fresh) var[k] = 1;
            EACH mu += x[i] / m;                        /* Algorithm 1, line 1 */
            EACH v += (x[i] - mu) * (x[i] - mu) / m;    /* line 2 */
            if (!train) mu = mean[k], v = var[k];
            REAL s = 1 / sqrt(v + 1e-5);
            EACH dbeta[k] += dy[i], dgamma[k] += dy[i] * (x[i] - mu) * s;
            EACH {
                REAL x_hat = (x[i] - mu) * s;           /* line 3 */
                x[i] = g * x_hat + b;                   /* line 4; dy becomes the gradient of x */
                dy[i] = g * s * (train ? dy[i] - dbeta[k] / m - x_hat * dgamma[k] / m : dy[i]);
            }
            if (train) mean[k] += 0.1 * (mu - mean[k]), var[k] += 0.1 * (v * m / (m - 1) - var[k]);
        }
        printf("{");
        print("y", x, n * c * p, ", "), print("dx", dy, n * c * p, ", ");
        print("dgamma", dgamma, c, ", "), print("dbeta", dbeta, c, ", ");
        print("mean", mean, c, ", "), print("var", var, c, "}\n");
        fflush(stdout);
        free(gamma), free(beta), free(mean), free(var), free(x), free(dy), free(dgamma), free(dbeta);
    }
    return 0;
}
