package partd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"
)

// suiteResult is what bench/suites/run writes about a suite of another project.
type suiteResult struct {
	Title, Programs, Date, Commit string
	Passed                        int
	Failed, Omitted               map[string][]string // tests by reason
}

// suiteResults returns the names of suites in the order of bench/suites/results.json, and their results.
func suiteResults(t *testing.T) (names []string, results map[string]suiteResult) {
	t.Helper()
	data, err := os.ReadFile("bench/suites/results.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &results); err != nil {
		t.Fatal(err)
	}
	for name := range results {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return bytes.Index(data, []byte("\n "+strconv.Quote(a))) - bytes.Index(data, []byte("\n "+strconv.Quote(b)))
	})
	return names, results
}

func countTests(byReason map[string][]string) (n int) {
	for _, tests := range byReason {
		n += len(tests)
	}
	return n
}

// TestSuites compares the table in docs/suites.md with bench/suites/results.json, or rewrites it with -update.
func TestSuites(t *testing.T) {
	names, results := suiteResults(t)
	table := "| suite | runs against | tests | passed | failed | omitted | date |\n|---|---|---|---|---|---|---|\n"
	details := ""
	for _, name := range names {
		r := results[name]
		failed, omitted := countTests(r.Failed), countTests(r.Omitted)
		table += fmt.Sprintf("| %s | %s | %d | %d | %d | %d | %s |\n", r.Title, r.Programs, r.Passed+failed+omitted, r.Passed, failed, omitted, r.Date)
		if failed+omitted > 0 {
			details += "\n**" + r.Title + "**\n\n"
		}
		for _, kind := range []struct {
			verb     string
			byReason map[string][]string
			limit    int // of named tests
		}{{"failed", r.Failed, 100}, {"omitted", r.Omitted, 3}} {
			for _, reason := range slices.Sorted(maps.Keys(kind.byReason)) {
				tests := kind.byReason[reason]
				if strings.TrimSpace(reason) == "" {
					t.Errorf("bench/suites/reasons.json does not say why tests of %s %s: %q", name, kind.verb, tests)
				}
				shown := make([]string, min(len(tests), kind.limit))
				for i := range shown {
					shown[i] = "`" + tests[i][strings.Index(tests[i], ".test")+1:] + "`"
				}
				if len(tests) > len(shown) {
					shown = append(shown, fmt.Sprint(len(tests)-len(shown), " more"))
				}
				details += fmt.Sprintf("- %s: %s. %s\n", kind.verb, strings.Join(shown, ", "), sentence(reason))
			}
		}
	}
	checkGenerated(t, "docs/suites.md", "TestSuites", table+details)
}

// sentence returns a reason with a capital letter and a full stop.
func sentence(reason string) string {
	return strings.ToUpper(reason[:min(1, len(reason))]) + strings.TrimSuffix(reason[min(1, len(reason)):], ".") + "."
}

// mutantCounts returns how many planted bugs bench/mutants lists, and how many of them tests find.
func mutantCounts(t *testing.T) (all, found int) {
	t.Helper()
	lists, err := filepath.Glob("bench/mutants/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range lists {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all += len(regexp.MustCompile(`(?m)^mutant:`).FindAll(text, -1))
		found += len(regexp.MustCompile(`(?m)^found: +[A-Z]`).FindAll(text, -1))
	}
	return all, found
}

// TestProof compares the table in docs/proof.md with .ci/long, bench/mutants and the results of suites, or
// rewrites it with -update.
func TestProof(t *testing.T) {
	long, err := os.ReadFile(".ci/long")
	if err != nil {
		t.Fatal(err)
	}
	// step returns the text about a step of .ci/long. %s in text stands for the number after the word before it, such as PARTD_KILLS=.
	step := func(name, word, text string) string {
		m := regexp.MustCompile(`(?m)^` + name + ` .*` + word + `[= ]?(\d+\w?)\b`).FindSubmatch(long)
		if m == nil {
			t.Fatalf(".ci/long has no step %s with a number after %s", name, word)
		}
		number := string(m[1])
		if n, err := strconv.Atoi(number); err == nil {
			number = humanize.Comma(int64(n))
		}
		return fmt.Sprintf(text, number) + " (`.ci/long " + name + "`)"
	}
	fuzz, err := exec.CommandContext(t.Context(), "git", "grep", "-h", "^func Fuzz", "--", "*_test.go").Output()
	if err != nil {
		t.Skipf("git grep: %v", err)
	}
	names, results := suiteResults(t)
	passed, failed, omitted, dates := 0, 0, 0, []string{}
	for _, r := range results {
		passed += r.Passed
		failed += countTests(r.Failed)
		omitted += countTests(r.Omitted)
		dates = append(dates, r.Date)
	}
	suites := func(text string, names ...string) string {
		n := 0
		for _, name := range names {
			n += results[name].Passed
			if results[name].Passed == 0 {
				t.Errorf("bench/suites/results.json has no result of %s", name)
			}
		}
		return fmt.Sprintf(text, n) + " (`bench/suites/run --only " + strings.Join(names, ",") + "`)"
	}
	table := "| promise | what is thrown at it, with the command that repeats it |\n|---|---|\n"
	for _, row := range [][]string{
		{
			"an acknowledged append or row survives kill -9, and after a sync also a power failure",
			step("crashes", "PARTD_CRASHES", "%s simulated crashes of the log store"), step("tablecrashes", "PARTD_CRASHES", "%s of tables"),
			step("kills", "PARTD_KILLS", "%s writers killed for each kind of test"), step("tablekills", "PARTD_KILLS", "%s rounds of killed programs that write tables"),
			step("bucketkills", "PARTD_KILLS", "%s killed writers to a bucket"),
		},
		{
			"each change is applied exactly once",
			step("cuts", "PARTD_CUTS", "%s connections to partd-server cut at random bytes"), step("remotecuts", "PARTD_CUTS", "%s for the Go client"),
			step("serverkills", "PARTD_KILLS", "%s killed servers"), step("attempts", "PARTD_KILLS", "%s runs in which workers are killed"), step("pullkills", "PARTD_KILLS", "%s rounds in which programs that save and load are killed"),
		},
		{
			"concurrent clients see each append and get at one point in time",
			step("histories", "PARTD_HISTORIES", "%s histories checked for linearizability"), step("tablereads", "PARTD_READS", "%s reads of tables during folds"),
		},
		{
			"every store behaves like one model",
			step("promises", "-rapid.checks", "%s random histories for each property of each store"), step("tableseries", "PARTD_SERIES_STEPS", "%s steps against a model of a series"),
		},
		{
			"a job on files, or a query, gives the right result",
			step("differential", "--duration", "random files and commands, compared with a model for %s"), step("tablediff", "PARTD_DIFF_SECONDS", "random puts and reads, compared with other programs for %s s"),
			suites("%d queries of TPC-H and TPC-DS against DuckDB", "tpch", "tpcds"),
		},
		{
			"other programs read and write our tables",
			step("engines", "PARTD_CONFLICTS", "%s commits of concurrent clients that conflict"), suites("%d tests of Iceberg's own catalog suites", "pyiceberg", "iceberg-core", "iceberg-go"),
		},
		{
			"hostile input causes an error, not a crash or unbounded memory",
			step("hostile", "--conversations", "%s conversations with partd-server"), step("flightmutants", "PARTD_MUTANTS", "%s mutated requests to partd-tables"),
			fmt.Sprintf("%d fuzz targets, each on its corpus and new inputs (`.ci/run fuzz`)", bytes.Count(fuzz, []byte("\n"))),
			suites("%d files of parser suites", "csv", "json", "parquet"),
		},
		{
			"we do what the projects that we imitate do",
			fmt.Sprintf("%s tests of other projects in [%d suites](suites.md), of which %s pass, %d fail, and %d are omitted (`bench/suites/run`)",
				humanize.Comma(int64(passed+failed+omitted)), len(names), humanize.Comma(int64(passed)), failed, omitted),
		},
	} {
		table += "| " + row[0] + " | " + strings.Join(row[1:], "; ") + " |\n"
	}
	if all, found := mutantCounts(t); all > 0 {
		table += fmt.Sprintf("| the tests notice when the code breaks | %d planted bugs, of which tests find %d; each survivor has a reason (`go run ./bench/mutants`) |\n", all, found)
	}
	if _, err := os.Stat("docs/invariants.md"); err == nil {
		table += "\n[invariants.md](invariants.md) lists what each store and table must always hold, and which test guards it.\n"
	}
	slices.Sort(dates)
	table += fmt.Sprintf("\nThe other projects' tests ran from %s to %s. The other counts are those that the commands at this commit use.\n", dates[0], dates[len(dates)-1])
	checkGenerated(t, "docs/proof.md", "TestProof", table)
}
