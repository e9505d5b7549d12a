# Reads "ROUND NAME CPU-SECONDS/MIN RSS-KIB PEAK-KIB PACKETS/S", writes a table or a JSON object; exit 1 over budget.

{
    lines++
    round[lines] = $1; name[lines] = $2; cpu[lines] = $3; rss[lines] = $4; peak[lines] = $5; rate[lines] = $6
    cost[lines] = $6 > 0 ? $3 / 60 * 1e6 / $6 : 0
}

END {
    collect("chronyd"); collect("truebound")
    ratio = median_of["chronyd", "cost"] > 0 ? median_of["truebound", "cost"] / median_of["chronyd", "cost"] : -1
    rates = median_of["chronyd", "rate"] > 0 ? median_of["truebound", "rate"] / median_of["chronyd", "rate"] : -1
    alike = rates >= 0.9 && rates <= 1.1
    within = alike && ratio >= 0 && ratio <= 1 && greatest_peak["truebound"] <= max_rss
    if (format == "json") write_json(); else write_table()
    exit !within
}

function collect(who,    i) {
    median_of[who, "cpu"] = median_by(who, cpu)
    median_of[who, "cost"] = median_by(who, cost)
    median_of[who, "rss"] = median_by(who, rss)
    median_of[who, "rate"] = median_by(who, rate)
    for (i = 1; i <= lines; i++) if (name[i] == who && peak[i] > greatest_peak[who]) greatest_peak[who] = peak[i]
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
    printf "%-6s %-10s %12s %12s %14s %10s %10s\n", "round", "client", "CPU-s/min", "packets/s", "CPU-us/packet", "RSS KiB",
        "peak KiB"
    for (i = 1; i <= lines; i++) row(round[i] + 1, name[i], cpu[i], rate[i], cost[i], rss[i], peak[i])
    row_of_medians("chronyd"); row_of_medians("truebound")
    printf "CPU per packet, truebound/chronyd %.3f (at most 1); peak %d KiB (at most %d): %s\n", ratio,
        greatest_peak["truebound"], max_rss, verdict()
}

function row(label, who, cpu, rate, cost, rss, peak) {
    printf "%-6s %-10s %12.3f %12.1f %14.1f %10d %10d\n", label, who, cpu, rate, cost, rss, peak
}

function row_of_medians(who) {
    row("median", who, median_of[who, "cpu"], median_of[who, "rate"], median_of[who, "cost"], median_of[who, "rss"],
        greatest_peak[who])
}

function verdict() {
    if (!alike) return "NOT COMPARABLE, the rates differ by more than 10 %"
    return within ? "within budget" : "OVER BUDGET"
}

function write_json(    i) {
    printf "{\"duration_s\":%s,\"rounds\":[", seconds
    for (i = 1; i <= lines; i++)
        printf "%s{\"round\":%d,\"client\":\"%s\",%s}", (i > 1 ? "," : ""), round[i] + 1, name[i],
            json_facts(cpu[i], rate[i], cost[i], rss[i], peak[i])
    printf "],\"median\":{\"chronyd\":{%s},\"truebound\":{%s}}", json_medians("chronyd"), json_medians("truebound")
    printf ",\"cpu_ratio\":%.4f,\"within_budget\":%s}\n", ratio, (within ? "true" : "false")
}

function json_medians(who) {
    return json_facts(median_of[who, "cpu"], median_of[who, "rate"], median_of[who, "cost"], median_of[who, "rss"],
        greatest_peak[who])
}

function json_facts(cpu, rate, cost, rss, peak) {
    return sprintf("\"cpu_s_per_min\":%.4f,\"packets_per_s\":%.1f,\"cpu_us_per_packet\":%.2f,\"rss_kib\":%d,\"peak_rss_kib\":%d",
        cpu, rate, cost, rss, peak)
}
