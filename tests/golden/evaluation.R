# Golden values of R for the measures of keras_ecg_mae.evaluation: AUROC, DeLong's test, calibration, net benefit.
#
#   Rscript tests/golden/evaluation.R tests/golden/evaluation.json
#
# Needs pROC, rms, boot and jsonlite (Debian: r-cran-proc r-cran-rms r-cran-boot r-cran-jsonlite). Each case has labels
# and two columns of probabilities, rounded to six digits so that both sides read the same numbers.

suppressMessages({ library(pROC); library(rms); library(boot); library(jsonlite) })

# Fitted on every other row, so that calibration on all of them is not 0 and 1.
fitted_probabilities <- function(formula, data) {
  model <- glm(formula, binomial, data[seq(1, nrow(data), 2), ])
  round(predict(model, data, type = "response"), 6)
}

data(aSAH, package = "pROC")
sah <- data.frame(poor = as.integer(aSAH$outcome == "Poor"), s100b = aSAH$s100b, ndka = aSAH$ndka)
crystals <- na.omit(boot::urine)
set.seed(16)
ours <- data.frame(label = rbinom(600, 1, 0.12))
ours$first <- round(plogis(-3 + 2.4 * ours$label + rnorm(600, sd = 1.3)), 2)  # two digits: many ties
ours$second <- round(plogis(-1.5 + 1.1 * ours$label + rnorm(600)), 6)

cases <- list(
  aSAH = list(labels = sah$poor, first = fitted_probabilities(poor ~ s100b, sah),
              second = fitted_probabilities(poor ~ ndka, sah)),
  urine = list(labels = crystals$r, first = fitted_probabilities(r ~ calc, crystals),
               second = fitted_probabilities(r ~ gravity + ph, crystals)),
  simulated = list(labels = ours$label, first = ours$first, second = ours$second)
)

net_benefit <- function(labels, probabilities, threshold) {
  called <- probabilities >= threshold
  mean(called & labels == 1) - mean(called & labels == 0) * threshold / (1 - threshold)
}

measured <- lapply(cases, function(case) {
  curves <- lapply(case[c("first", "second")], function(p) roc(case$labels, p, levels = c(0, 1), direction = "<"))
  test <- roc.test(curves$first, curves$second, method = "delong", paired = TRUE)
  inside <- pmin(pmax(case$first, 2^-24), 1 - 2^-24)
  logits <- qlogis(inside)
  shifted <- glm(case$labels ~ offset(logits), family = binomial, control = list(epsilon = 1e-14, maxit = 100))
  slope <- glm(case$labels ~ logits, family = binomial, control = list(epsilon = 1e-14, maxit = 100))
  validated <- val.prob(inside, case$labels, pl = FALSE)
  thresholds <- c(0.05, 0.1, 0.2, 0.5)
  c(lapply(case, unname), list(
    auroc = as.numeric(auc(curves$first)), auroc_second = as.numeric(auc(curves$second)),
    variance = var(curves$first, method = "delong"), z = unname(test$statistic), p = test$p.value,
    intercept = unname(coef(slope)[1]), slope = unname(coef(slope)[2]), in_the_large = unname(coef(shifted)),
    val_prob_intercept = unname(validated["Intercept"]), val_prob_slope = unname(validated["Slope"]),
    thresholds = thresholds, net_benefit = sapply(thresholds, net_benefit, labels = case$labels,
                                                  probabilities = case$first)
  ))
})

versions <- lapply(c("pROC", "rms", "boot"), function(name) as.character(packageVersion(name)))
names(versions) <- c("pROC", "rms", "boot")
made <- c(list(R = R.version.string), versions)
writeLines(toJSON(list(made = made, cases = measured), auto_unbox = TRUE, digits = NA), commandArgs(TRUE)[1])
