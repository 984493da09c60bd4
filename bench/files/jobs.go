package main

import (
	"cmp"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// job is a task that contenders perform on an input.
type job struct {
	name       string
	title      string
	contenders []contender
	goal       goal
	// question is the db-benchmark question that the job answers, or nil.
	question *question
}

// contender is a program that does a job.
type contender struct {
	peer  string // name in --peers, or "partd"
	label string // name in the table
	// command returns the command, which writes to outDir.
	command func(f *flags, src *input, outDir string) *exec.Cmd
	// read adds the output to a grouping. It is nil for questions.
	read func(src *input, outDir string, g *grouping) error
	// isUnordered is true if the values of a key may be in any order.
	isUnordered bool
	// unusableReason returns the reason why the contender cannot use an input, or "".
	unusableReason func(src *input) string
	// timesItself is true if the command prints its time in seconds, which excludes its startup.
	timesItself bool
}

var jobs = append([]job{
	{
		name: "shuffle", title: "shuffle into a store",
		goal: goal{speed: 350},
		contenders: []contender{
			{peer: "partd", label: "partd shuffle", command: partdShuffle, read: readLogstore},
			{peer: "duckdb", label: "DuckDB PARTITION_BY", command: duckdbPartition, read: readFiles, isUnordered: true, timesItself: true, unusableReason: reasonIfText},
			{peer: "python", label: "Python partd File", command: pythonShuffle, read: readPythonFiles, unusableReason: reasonIfManyKeys},
		},
	},
	{
		name: "split", title: "one file per key",
		goal: goal{peer: "sort + awk", ratio: 3},
		contenders: []contender{
			{peer: "partd", label: "partd split", command: partdSplit, read: readFiles},
			{peer: "sort", label: "sort + awk", command: sortAwk, read: readFiles},
		},
	},
	{
		name: "sort", title: "sort by key",
		goal: goal{peer: "GNU sort", ratio: 2},
		contenders: []contender{
			{peer: "partd", label: "partd sort", command: partdSort, read: readSorted},
			{peer: "sort", label: "GNU sort", command: gnuSort, read: readSorted},
			{peer: "duckdb", label: "DuckDB ORDER BY", command: duckdbSort, read: readSorted, isUnordered: true, timesItself: true},
			{peer: "polars", label: "polars sort", command: polarsSort, read: readSorted, isUnordered: true, unusableReason: reasonIfText},
		},
	},
	{
		name: "sum", title: "sum and count per key",
		goal: goal{peer: "DuckDB GROUP BY", ratio: 1},
		contenders: []contender{
			{peer: "partd", label: "partd group", command: partdSum, read: readSums},
			{peer: "duckdb", label: "DuckDB GROUP BY", command: duckdbSum, read: readSums, timesItself: true},
			{peer: "gawk", label: "gawk", command: gawkSum, read: readSums},
			{peer: "miller", label: "Miller", command: millerSum, read: readSums, unusableReason: reasonIfText},
		},
	},
	{
		name: "values", title: "all values of each key, together",
		goal: goal{speed: 250},
		contenders: []contender{
			{peer: "partd", label: "partd group list()", command: partdValues, read: readLists},
			{peer: "duckdb", label: "DuckDB string_agg", command: duckdbLists, read: readLists, isUnordered: true, timesItself: true},
			{peer: "duckdb", label: "DuckDB ORDER BY, its own way", command: duckdbValues, read: readPairs, isUnordered: true, timesItself: true},
		},
	},
}, questionJobs()...)

func (j job) wantDigest(src *input) digest {
	switch j.name {
	case "sum":
		return src.expected.sums
	case "values":
		return src.expected.values
	}
	return src.expected.rows
}

func (j job) check(c contender, src *input, outDir string) error {
	if j.question != nil {
		return j.question.check(src, outDir)
	}
	var g grouping
	if err := c.read(src, outDir, &g); err != nil {
		return err
	}
	got, want := g.result(), j.wantDigest(src)
	if c.isUnordered {
		got.Ordered = want.Ordered
	}
	if got != want {
		return fmt.Errorf("wrong output: %d keys and %d values (want %d and %d), hashes %x and %x (want %x and %x)",
			got.Keys, got.Pairs, want.Keys, want.Pairs, got.Rows, got.Ordered, want.Rows, want.Ordered)
	}
	return nil
}

func reasonIfText(src *input) string {
	if src.isText {
		return "supports only CSV"
	}
	return ""
}

func reasonIfManyKeys(src *input) string {
	if src.keys > 10_000 {
		return "takes a minute or more, because it writes a file per key"
	}
	return reasonIfText(src)
}

func jobNames() (names []string) {
	for _, j := range jobs {
		names = append(names, j.name)
	}
	return names
}

func peerNames() (names []string) {
	for _, j := range jobs {
		for _, c := range j.contenders {
			if c.peer != "partd" && !slices.Contains(names, c.peer) {
				names = append(names, c.peer)
			}
		}
	}
	return names
}

func selectedJobs(list string) (all []job, err error) {
	list = strings.Replace(list, "questions", "groupings,joins", 1)
	list = strings.NewReplacer("groupings", "q1,q2,q3,q4,q5,q6,q7,q8,q9,q10", "joins", "j1,j2,j3,j4,j5").Replace(list)
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(jobs, func(j job) bool { return j.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown job %q: use %s", name, strings.Join(jobNames(), ", "))
		}
		all = append(all, jobs[i])
	}
	return all, nil
}

// selectedPeers maps each selected peer to the reason why it cannot run, or to "".
func (f *flags) selectedPeers() (map[string]string, error) {
	peers := map[string]string{"partd": ""}
	names := peerNames()
	if f.peers != "all" {
		names = strings.Split(f.peers, ",")
	}
	for _, name := range names {
		if name == "none" {
			continue
		}
		if !slices.Contains(peerNames(), name) {
			return nil, fmt.Errorf("unknown peer %q: use %s", name, strings.Join(peerNames(), ", "))
		}
		peers[name] = f.missingProgram(name)
		if peers[name] != "" && f.require {
			return nil, fmt.Errorf("%s: %s", name, peers[name])
		}
	}
	return peers, nil
}

// missingProgram returns a message about a missing program that a peer needs, or "".
func (f *flags) missingProgram(peer string) string {
	need := func(programs ...string) string {
		for _, p := range programs {
			if _, err := exec.LookPath(p); err != nil {
				return p + " is not installed"
			}
		}
		return ""
	}
	switch peer {
	case "sort":
		if f.by == "-1" { // sortPipeline uses gawk in this case
			return need("sort", "awk", "gawk")
		}
		return need("sort", "awk")
	case "gawk":
		return need("gawk")
	case "miller":
		return need("mlr")
	}
	if python := map[string]string{"python": f.python, "polars": f.polars, "duckdb": f.duckdb, "datafusion": f.datafusion}[peer]; python != "" {
		module := cmp.Or(map[string]string{"python": "partd"}[peer], peer)
		if exec.Command(python, "-c", "import "+module).Run() != nil {
			return python + " has no " + module
		}
	}
	return ""
}
