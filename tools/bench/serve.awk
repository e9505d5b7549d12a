# Reads "ROUND NAME CPU-S ANSWERS SECONDS VIOLATIONS OFFERED/S ANSWERED/S SYNCHRONISED PEAK-KIB", writes a table or a JSON
# object; exit 1 over budget.

{
    lines++
    round[lines] = $1; name[lines] = $2; cpu[lines] = $3; peak[lines] = $10
    served[lines] = $5 > 0 ? $4 / $5 : 0
    worth[lines] = $3 > 0 ? $4 / $3 : 0
    violations[lines] = $6; offered[lines] = $7; under[lines] = $8; synchronised[lines] = $9
    if ($2 != "bare") all_violations += $6
    if ($2 == "truebound") { greatest_peak = $10 > greatest_peak ? $10 : greatest_peak; unsynchronised += !$9 }
}

END {
    collect("chronyd"); collect("truebound"); collect("bare")
    ratio = median_of["chronyd", "worth"] > 0 ? median_of["truebound", "worth"] / median_of["chronyd", "worth"] : -1
    ceiling = median_of["chronyd", "worth"] > 0 ? median_of["bare", "worth"] / median_of["chronyd", "worth"] : -1
    within = ratio >= least && all_violations == 0 && unsynchronised == 0 && greatest_peak <= max_rss
    if (format == "json") write_json(); else write_table()
    exit !within
}

function collect(who) {
    median_of[who, "worth"] = median_by(who, worth)
    median_of[who, "served"] = median_by(who, served)
    median_of[who, "offered"] = median_by(who, offered)
    median_of[who, "under"] = median_by(who, under)
    median_of[who, "peak"] = median_by(who, peak)
}

function median_by(who, column,    i, n, values) {
    for (i = 1; i <= lines; i++) if (name[i] == who) values[++n] = column[i]
    return median(values, n)
}

function median(values, n,    i, j, swap) {
    for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (values[j] + 0 < values[i] + 0) {
        swap = values[i]; values[i] = values[j]; values[j] = swap
    }
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
}

function write_table(    i) {
    printf "%-6s %-10s %14s %11s %16s %16s %10s %6s %9s\n", "round", "server", "answers/CPU-s", "answers/s", "flood: asked/s",
        "answered/s", "violations", "synced", "peak KiB"
    for (i = 1; i <= lines; i++)
        row(round[i] + 1, name[i], worth[i], served[i], offered[i], under[i], violations[i], synchronised[i] ? "yes" : "NO",
            peak[i])
    row_of_medians("chronyd"); row_of_medians("truebound"); row_of_medians("bare")
    printf "answers per CPU second, truebound/chronyd %.3f (at least %s; bare/chronyd %.3f); %d violations; peak %d KiB (at most %d): %s\n",
        ratio, least, ceiling, all_violations, greatest_peak, max_rss, within ? "within budget" : "OVER BUDGET"
}

function row(label, who, worth, served, offered, under, violations, synchronised, peak) {
    printf "%-6s %-10s %14.0f %11.0f %16.0f %16.0f %10s %6s %9d\n", label, who, worth, served, offered, under, violations,
        synchronised, peak
}

function row_of_medians(who) {
    row("median", who, median_of[who, "worth"], median_of[who, "served"], median_of[who, "offered"],
        median_of[who, "under"], "", "", median_of[who, "peak"])
}

function write_json(    i) {
    printf "{\"mode\":\"%s\",\"rounds\":[", (mode == "" ? "basic" : mode)
    for (i = 1; i <= lines; i++)
        printf "%s{\"round\":%d,\"server\":\"%s\",%s,\"violations\":%d,\"synchronised\":%s}", (i > 1 ? "," : ""), round[i] + 1,
            name[i], json_facts(worth[i], served[i], offered[i], under[i], peak[i]), violations[i],
            (synchronised[i] ? "true" : "false")
    printf "],\"median\":{\"chronyd\":{%s},\"truebound\":{%s},\"bare\":{%s}}", json_medians("chronyd"),
        json_medians("truebound"), json_medians("bare")
    printf ",\"ratio\":%.4f,\"bare_ratio\":%.4f,\"violations\":%d,\"within_budget\":%s}\n", ratio, ceiling, all_violations,
        (within ? "true" : "false")
}

function json_medians(who) {
    return json_facts(median_of[who, "worth"], median_of[who, "served"], median_of[who, "offered"],
        median_of[who, "under"], median_of[who, "peak"])
}

function json_facts(worth, served, offered, under, peak) {
    return sprintf("\"answers_per_cpu_s\":%.0f,\"answers_per_s\":%.0f,\"flood_asked_per_s\":%.0f,\"flood_answered_per_s\":%.0f,\"peak_rss_kib\":%d",
        worth, served, offered, under, peak)
}
