package docs_test

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
	"github.com/go-partd/partd/internal/testutil/must"
)

// suiteResult is what bench/suites/run writes about a suite of another project.
type suiteResult struct {
	Title, Programs, Date, Commit string
	Passed                        int
	Failed, Omitted               map[string][]string // names of tests, by the reason why they failed or were omitted
}

// suiteResults returns the names of suites in the order of bench/suites/results.json, and their results.
func suiteResults(t *testing.T) (names []string, results map[string]suiteResult) {
	t.Helper()
	data := must.Get(os.ReadFile("bench/suites/results.json"))(t)
	must.Do(t, json.Unmarshal(data, &results))
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

// TestSuites compares the table in docs/dev/suites.md with bench/suites/results.json, or rewrites it with -update.
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
		}{{"failed", r.Failed}, {"omitted", r.Omitted}} {
			for _, reason := range slices.Sorted(maps.Keys(kind.byReason)) {
				tests := kind.byReason[reason]
				if strings.TrimSpace(reason) == "" {
					t.Errorf("bench/suites/reasons.json does not say why tests of %s %s: %q", name, kind.verb, tests)
				}
				details += fmt.Sprintf("- %s: %d. %s\n", kind.verb, len(tests), sentence(reason))
			}
		}
	}
	checkGenerated(t, "docs/dev/suites.md", "TestSuites", table+details)
}

// sentence returns a reason with a capital letter and a full stop.
func sentence(reason string) string {
	return strings.ToUpper(reason[:min(1, len(reason))]) + strings.TrimSuffix(reason[min(1, len(reason)):], ".") + "."
}

// mutantFinders returns the test that finds each planted bug of bench/mutants, or "" for a survivor.
func mutantFinders(t *testing.T) map[string]string {
	t.Helper()
	lists, err := filepath.Glob("bench/mutants/*.txt")
	if err != nil || len(lists) == 0 {
		t.Fatalf("lists in bench/mutants: %q, error %v", lists, err)
	}
	finders := map[string]string{}
	for _, name := range lists {
		text := must.Get(os.ReadFile(name))(t)
		for _, m := range mutantResult.FindAllSubmatch(text, -1) {
			finders[string(m[1])] = string(m[2])
		}
	}
	return finders
}

// TestProof compares the table in docs/proof.md with .ci/long, bench/mutants and the results of suites, or
// rewrites it with -update.
func TestProof(t *testing.T) {
	long := must.Get(os.ReadFile(".ci/long"))(t)
	// step returns text with %s replaced by the number that follows word in a step of .ci/long. It appends the step's
	// name.
	step := func(name, word, text string) string {
		m := regexp.MustCompile(`(?m)^` + name + ` .*` + word + `[= ]?(\d+\w?)\b`).FindSubmatch(long)
		if m == nil {
			t.Fatalf(".ci/long has no step %s with a number after %s", name, word)
		}
		number := string(m[1])
		if n, err := strconv.Atoi(number); err == nil {
			number = humanize.Comma(int64(n))
		}
		return fmt.Sprintf(text, number) + " (`" + name + "`)"
	}
	// command returns text followed by the command. If the command names a step of .ci/long or tests, they must exist.
	command := func(text, command string) string {
		if name, isStep := strings.CutPrefix(command, ".ci/long "); isStep && !regexp.MustCompile(`(?m)^`+name+` `).Match(long) {
			t.Errorf(".ci/long has no step %s", name)
		}
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(command, -1) {
			if err := exec.CommandContext(t.Context(), "git", "grep", "-q", "^func "+name+"(", "--", "*_test.go").Run(); err != nil {
				t.Errorf("there is no test %s: %v", name, err)
			}
		}
		return text + " (`" + strings.TrimPrefix(command, ".ci/long ") + "`)"
	}
	fuzz, err := exec.CommandContext(t.Context(), "git", "grep", "-h", "^func Fuzz", "--", "*_test.go").Output()
	if err != nil {
		t.Skipf("git grep: %v", err)
	}
	names, results := suiteResults(t)
	// suites returns a text with the numbers of tests in suites. unit is the word for the tests, such as "queries".
	suites := func(unit, source string, names ...string) string {
		passed, failed, omitted := 0, 0, 0
		for _, name := range names {
			r, ok := results[name]
			if !ok {
				t.Errorf("bench/suites/results.json has no result of %s", name)
			}
			passed, failed, omitted = passed+r.Passed, failed+countTests(r.Failed), omitted+countTests(r.Omitted)
		}
		return fmt.Sprintf("%s %s %s: %s pass, %d fail, %d are omitted", humanize.Comma(int64(passed+failed+omitted)), unit, source,
			humanize.Comma(int64(passed)), failed, omitted)
	}
	only := func(unit, source string, names ...string) string {
		return suites(unit, source, names...) + " (`bench/suites/run --only " + strings.Join(names, ",") + "`)"
	}
	table := "| promise | what the commands throw at it |\n|---|---|\n"
	for _, row := range [][]string{
		{
			"an acknowledged append to File or a log store, a flush to a cloud bucket, or a row of a table survives kill -9, and after a sync also a power failure",
			step("crashes", "PARTD_CRASHES", "%s simulated crashes of the log store"), step("tablecrashes", "PARTD_CRASHES", "%s of tables"),
			step("bucketcrashes", "PARTD_CRASHES", "%s simulated deaths of writers to a bucket, and of its sweeper"),
			step("kills", "PARTD_KILLS", "%s killed writers each for File, numbered operations on File, and the log store"), step("tablekills", "PARTD_KILLS", "%s rounds of killed programs that write tables"),
			step("bucketkills", "PARTD_KILLS", "%s killed writers to a bucket"),
		},
		{
			"a failed append changes nothing, or its error says that the outcome is unknown",
			command("each call of File and of the log store to the file system fails in turn, with each of several errors", ".ci/long faults"),
		},
		{
			"damage on disk causes an error, never wrong data",
			command("each bit of each file of a log store is flipped, and each file cut at each length", "go test -run TestEveryBitAndCut ./logstore"),
			command("objects of a bucket are changed, cut and removed", "cd objstore && go test -run TestDamagedObjects ."),
			step("tableflips", "PARTD_FLIPS", "%s flipped bits in each kind of file of a store of tables, killed, closed or in a bucket; a flip in the last commit before a kill can drop that commit, which the log says"),
		},
		{
			"many processes share one directory",
			step("lives", "PARTD_LIVES", "%s simulated processes, one after another, which a kill or a power failure ends at a random call, for each of several options of File"),
		},
		{
			"each change is applied exactly once",
			step("cuts", "PARTD_CUTS", "%s connections between client and server cut at random bytes"),
			step("serverkills", "PARTD_KILLS", "%s killed servers"), step("restkeys", "PARTD_ANSWERS", "%s REST requests whose answers are dropped"), step("attempts", "PARTD_KILLS", "%s runs in which workers are killed"), step("pullkills", "PARTD_KILLS", "%s rounds in which programs that save and load are killed"),
		},
		{
			"each append and each get takes effect at one moment",
			step("histories", "PARTD_HISTORIES", "%s histories checked for linearizability"), step("tablereads", "PARTD_READS", "%s reads of tables during folds"),
		},
		{
			"every store behaves like one model",
			step("promises", "-rapid.checks", "%s random histories each for Dict, Buffer and File"),
			step("storepromises", "-rapid.checks", "%s each for log stores and a buffer before a File, and fewer for remote, compressed and divided stores, which open slowly"),
			step("bucketpromises", "-rapid.checks", "%s for a bucket in memory"), step("tableseries", "PARTD_SERIES_STEPS", "%s steps against a model of a series"),
		},
		{
			"a job on files, or a query, gives the right result",
			step("differential", "--duration", "random files and commands, compared with a model for %s"), step("tablediff", "PARTD_DIFF_SECONDS", "random puts and reads, compared with other programs for %s s"),
			only("queries", "of TPC-H and TPC-DS against DuckDB", "tpch", "tpcds"), only("tests", "of csv-spectrum", "csv"),
		},
		{
			"other programs read and write our tables",
			step("engines", "PARTD_CONFLICTS", "%s commits of concurrent clients that conflict"), only("tests", "of Iceberg's own catalog suites", "pyiceberg", "iceberg-core", "iceberg-go"),
		},
		{
			"hostile input causes an error, not a crash or unbounded memory",
			step("hostile", "--conversations", "%s conversations with partd-server"), step("flightmutants", "PARTD_MUTANTS", "%s mutated requests to partd-tables"),
			fmt.Sprintf("%d fuzz targets, each on its corpus and for 10 minutes on new inputs (`FUZZ_SECONDS=600 .ci/run fuzz`)", bytes.Count(fuzz, []byte("\n"))),
			only("tests", "of parser suites", "json", "parquet"),
		},
		{
			"jobs and servers stay within `--memory` and [a stated margin](cli.md#memory)",
			command("many peers that overload partd-server with valid requests", ".ci/long pressure"),
			step("greedy", "PARTD_GREEDY", "greedy peers of partd-server for %s"), step("greedytables", "PARTD_GREEDY", "greedy clients of partd-tables for %s"),
		},
		{
			"programs and tests written for other projects work with ours",
			suites("tests", fmt.Sprintf("of other projects in [%d suites](dev/suites.md)", len(names)), names...) + "; they include those above (`bench/suites/run`)",
		},
	} {
		table += "| " + row[0] + " | " + strings.Join(row[1:], "; ") + " |\n"
	}
	finders, found := mutantFinders(t), 0
	for _, finder := range finders {
		if finder != "" {
			found++
		}
	}
	table += fmt.Sprintf("| the tests notice when the code breaks | %d planted bugs, of which tests find %d; each survivor has a reason (`go run -C bench ./mutants`) |\n", len(finders), found)
	table += "\n[invariants.md](dev/invariants.md) lists what each store and table must always hold, and which test guards it.\n"
	dates := []string{}
	for _, r := range results {
		dates = append(dates, r.Date)
	}
	slices.Sort(dates)
	when := "on " + dates[0]
	if last := dates[len(dates)-1]; last != dates[0] {
		when = "from " + dates[0] + " to " + last
	}
	table += "\nThe results of other projects' tests are " + when + ", at the commits in `bench/suites/results.json`. Other counts are settings of the commands, not results of a run.\n"
	checkGenerated(t, "docs/proof.md", "TestProof", table)
}
