# Reads "ROUND NAME CPU-SECONDS/MIN RSS-KIB PEAK-KIB PACKETS/S", writes a table or a JSON object; exit 1 over budget.

{
    lines++
    round[lines] = $1; name[lines] = $2; cpu[lines] = $3; rss[lines] = $4; peak[lines] = $5; rate[lines] = $6
}

END {
    collect("chronyd"); collect("truebound")
    ratio = median_of["chronyd", "cpu"] > 0 ? median_of["truebound", "cpu"] / median_of["chronyd", "cpu"] : -1
    within = ratio >= 0 && ratio <= 1 && greatest_peak["truebound"] <= max_rss
    if (format == "json") write_json(); else write_table()
    exit !within
}

function collect(who,    i, n, values) {
    for (n = 0, i = 1; i <= lines; i++) if (name[i] == who) values[++n] = cpu[i]
    median_of[who, "cpu"] = median(values, n)
    for (n = 0, i = 1; i <= lines; i++) if (name[i] == who) values[++n] = rss[i]
    median_of[who, "rss"] = median(values, n)
    for (n = 0, i = 1; i <= lines; i++) if (name[i] == who) values[++n] = rate[i]
    median_of[who, "rate"] = median(values, n)
    for (i = 1; i <= lines; i++) if (name[i] == who && peak[i] > greatest_peak[who]) greatest_peak[who] = peak[i]
}

function median(values, n,    i, j, swap) {
    for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (values[j] + 0 < values[i] + 0) {
        swap = values[i]; values[i] = values[j]; values[j] = swap
    }
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
}

function write_table(    i) {
    printf "%-6s %-10s %12s %10s %10s %12s\n", "round", "client", "CPU-s/min", "RSS KiB", "peak KiB", "packets/s"
    for (i = 1; i <= lines; i++)
        printf "%-6d %-10s %12.3f %10d %10d %12.1f\n", round[i] + 1, name[i], cpu[i], rss[i], peak[i], rate[i]
    table_median("chronyd"); table_median("truebound")
    printf "CPU ratio truebound/chronyd %.3f (at most 1), peak %d KiB (at most %d): %s\n", ratio,
        greatest_peak["truebound"], max_rss, within ? "within budget" : "OVER BUDGET"
}

function table_median(who) {
    printf "%-6s %-10s %12.3f %10d %10d %12.1f\n", "median", who, median_of[who, "cpu"], median_of[who, "rss"],
        greatest_peak[who], median_of[who, "rate"]
}

function write_json(    i) {
    printf "{\"seconds_s\":%s,\"rounds\":[", seconds
    for (i = 1; i <= lines; i++)
        printf "%s{\"round\":%d,\"client\":\"%s\",%s}", i > 1 ? "," : "", round[i] + 1, name[i],
            json_facts(cpu[i], rss[i], peak[i], rate[i])
    printf "],\"median\":{\"chronyd\":{%s},\"truebound\":{%s}}", json_median("chronyd"), json_median("truebound")
    printf ",\"cpu_ratio\":%.4f,\"within_budget\":%s}\n", ratio, within ? "true" : "false"
}

function json_median(who) {
    return json_facts(median_of[who, "cpu"], median_of[who, "rss"], greatest_peak[who], median_of[who, "rate"])
}

function json_facts(cpu, rss, peak, rate) {
    return sprintf("\"cpu_s_per_min\":%.4f,\"rss_kib\":%d,\"peak_rss_kib\":%d,\"packets_per_s\":%.1f", cpu, rss, peak, rate)
}
