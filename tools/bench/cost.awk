# Reads "ROUND NAME CPU-SECONDS/MIN RSS-KIB PEAK-KIB PACKETS/S" and "start NAME SECONDS", writes a table or a JSON object;
# exit 1 over budget.

$1 == "start" {
    starts++
    starter[starts] = $2; start_s[starts] = $3
    next
}

{
    lines++
    round[lines] = $1; name[lines] = $2; cpu[lines] = $3; rss[lines] = $4; peak[lines] = $5; rate[lines] = $6
    cost[lines] = $6 > 0 ? $3 / 60 * 1e6 / $6 : 0
}

END {
    clients = split("chronyd truebound ptp4l truebound_ptp", client)
    for (c = 1; c <= clients; c++) collect(client[c])
    ratio = quotient("truebound", "chronyd", "cost"); ptp_ratio = quotient("truebound_ptp", "ptp4l", "cost")
    alike = is_alike("truebound", "chronyd") && is_alike("truebound_ptp", "ptp4l")
    our_start = start_of("truebound"); their_start = start_of("chronyd")
    within = alike && ratio >= 0 && ratio <= 1 && highest_peak() <= max_rss && our_start <= max_start
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

function quotient(ours, theirs, what) {
    return median_of[theirs, what] > 0 ? median_of[ours, what] / median_of[theirs, what] : -1
}

function is_alike(ours, theirs,    rates) {
    rates = quotient(ours, theirs, "rate")
    return rates >= 0.9 && rates <= 1.1
}

function highest_peak() {
    return greatest_peak["truebound"] > greatest_peak["truebound_ptp"] ? greatest_peak["truebound"] : greatest_peak["truebound_ptp"]
}

function median_by(who, column,    i, n, values) {
    for (i = 1; i <= lines; i++) if (name[i] == who) values[++n] = column[i]
    return median(values, n)
}

# 0 where nobody was started.
function start_of(who,    i, n, values) {
    for (i = 1; i <= starts; i++) if (starter[i] == who) values[++n] = start_s[i]
    return n ? median(values, n) : 0
}

function median(values, n,    i, j, swap) {
    for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (values[j] + 0 < values[i] + 0) {
        swap = values[i]; values[i] = values[j]; values[j] = swap
    }
    return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
}

function write_table(    i) {
    printf "%-6s %-14s %12s %12s %14s %10s %10s\n", "round", "client", "CPU-s/min", "packets/s", "CPU-us/packet", "RSS KiB",
        "peak KiB"
    for (i = 1; i <= lines; i++) row(round[i] + 1, name[i], cpu[i], rate[i], cost[i], rss[i], peak[i])
    for (i = 1; i <= clients; i++) row_of_medians(client[i])
    printf "start until the first bound: truebound %.3f s (at most %s s); until the first source: chronyd %.3f s; medians of %d\n",
        our_start, max_start, their_start, starts / 2
    printf "CPU per packet, truebound/chronyd %.3f (at most 1), by PTP truebound/ptp4l %.3f; peak %d KiB (at most %d): %s\n",
        ratio, ptp_ratio, highest_peak(), max_rss, verdict()
}

function row(label, who, cpu, rate, cost, rss, peak) {
    printf "%-6s %-14s %12.3f %12.1f %14.1f %10d %10d\n", label, who, cpu, rate, cost, rss, peak
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
    printf "],\"median\":{"
    for (i = 1; i <= clients; i++) printf "%s\"%s\":{%s}", (i > 1 ? "," : ""), client[i], json_medians(client[i])
    printf "},\"starts\":["
    for (i = 1; i <= starts; i++) printf "%s{\"client\":\"%s\",\"start_s\":%s}", (i > 1 ? "," : ""), starter[i], start_s[i]
    printf "],\"median_start_s\":{\"chronyd\":%.4f,\"truebound\":%.4f}", their_start, our_start
    printf ",\"cpu_ratio\":%.4f,\"ptp_cpu_ratio\":%.4f,\"within_budget\":%s}\n", ratio, ptp_ratio, (within ? "true" : "false")
}

function json_medians(who) {
    return json_facts(median_of[who, "cpu"], median_of[who, "rate"], median_of[who, "cost"], median_of[who, "rss"],
        greatest_peak[who])
}

function json_facts(cpu, rate, cost, rss, peak) {
    return sprintf("\"cpu_s_per_min\":%.4f,\"packets_per_s\":%.1f,\"cpu_us_per_packet\":%.2f,\"rss_kib\":%d,\"peak_rss_kib\":%d",
        cpu, rate, cost, rss, peak)
}
