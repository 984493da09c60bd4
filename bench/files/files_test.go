package main

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestField(t *testing.T) {
	for _, c := range []struct {
		text   bool
		line   string
		column int
		want   string
		ok     bool
	}{
		{false, "a,b,c", 1, "a", true},
		{false, "a,b,c", 3, "c", true},
		{false, "a,,c", 2, "", true},
		{false, "a,b", 3, "", false},
		{true, "  a  b\tc ", 1, "a", true},
		{true, "  a  b\tc ", 3, "c", true},
		{true, "  a  b\tc ", -1, "c", true},
		{true, "a", 2, "", false},
		{true, " ", -1, "", false},
	} {
		got, ok := (&input{isText: c.text}).field([]byte(c.line), c.column)
		if string(got) != c.want || ok != c.ok {
			t.Errorf("field(%q, %d) = %q, %v; want %q, %v", c.line, c.column, got, ok, c.want, c.ok)
		}
	}
}

func TestCutField(t *testing.T) {
	for _, c := range []struct {
		line, field, rest string
		more              bool
	}{
		{`a;b;c`, "a", "b;c", true},
		{`a`, "a", "", false},
		{``, "", "", false},
		{`"a;b";c`, "a;b", "c", true},
		{`"say ""x""";c`, `say "x"`, "c", true},
		{`"a"`, "a", "", false},
	} {
		field, rest, more := cutField([]byte(c.line), ';')
		if string(field) != c.field || string(rest) != c.rest || more != c.more {
			t.Errorf("cutField(%q) = %q, %q, %v; want %q, %q, %v", c.line, field, rest, more, c.field, c.rest, c.more)
		}
	}
}

func TestWrongOutputsAreDetected(t *testing.T) {
	dir := t.TempDir()
	in := &input{path: filepath.Join(dir, "in.csv"), keyColumn: "key", values: "text", sum: "v"}
	rows := "id,key,v,text\n1,b,10,x\n2,a,20,y\n3,b,-5,z\n"
	write(t, in.path, rows)
	must.Do(t, (&flags{}).prepare(in))
	for _, c := range []struct {
		job, name, content string
		isCorrect          bool
	}{
		{"sort", "result.csv", "id,key,v,text\n2,a,20,y\n1,b,10,x\n3,b,-5,z\n", true},
		{"sort", "result.csv", "2,a,20,y\n1,b,10,x\n3,b,-5,z\nid,key,v,text\n", true},
		{"sort", "result.csv", "id,key,v,text\n2,a,20,y\n3,b,-5,z\n1,b,10,x\n", false},
		{"sort", "result.csv", rows, false},
		{"sort", "result.csv", "id,key,v,text\n2,a,20,y\n1,b,10,x\n", false},
		{"sum", "result.csv", "key,count,sum\na,1,20\nb,2,5\n", true},
		{"sum", "result.csv", "key,count,sum\nb,2,5.0\na,1,20\n", true},
		{"sum", "result.csv", "key,count,sum\na,1,20\nb,2,6\n", false},
		{"sum", "result.csv", "key,count,sum\nb,1,10\na,1,20\nb,1,-5\n", false},
		{"values", "result.csv", "key,list\na,y\nb,x;z\n", true},
		{"values", "result.csv", "key,list\na,y\nb,z;x\n", false},
		{"values", "result.csv", "key,list\na,y\nb,x\n", false},
		{"split", "files/b.csv", "id,key,v,text\n1,b,10,x\n3,b,-5,z\n", true},
		{"split", "files/b.csv", "1,b,10,x\n3,b,-5,z\n", false},
		{"split", "files/b.csv", "id,key,v,text\n1,b,10,x\n", false},
	} {
		out := t.TempDir()
		if c.job == "split" {
			must.Do(t, os.Mkdir(filepath.Join(out, "files"), 0o777))
			write(t, filepath.Join(out, "files", "a.csv"), "id,key,v,text\n2,a,20,y\n")
		}
		write(t, filepath.Join(out, c.name), c.content)
		list := must.Get(selectedJobs(c.job))(t)
		if err := list[0].check(list[0].contenders[0], in, out); (err == nil) != c.isCorrect {
			t.Errorf("check of job %s with output %q: error = %v, want an error: %t", c.job, c.content, err, !c.isCorrect)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must.Do(t, os.WriteFile(path, []byte(content), 0o666))
}

func TestLinesOfAnyLength(t *testing.T) {
	long := strings.Repeat("x", 5<<20)
	var got []string
	err := eachLine(strings.NewReader("a\n\n"+long+"\nb"), func(line []byte) error {
		got = append(got, string(line))
		return nil
	})
	if err != nil || len(got) != 4 || got[0] != "a" || got[1] != "" || got[2] != long || got[3] != "b" {
		t.Fatalf("eachLine() passed %d lines, error = %v; want 4 lines", len(got), err)
	}
}

// TestFigures checks that the figures have medians, the median run's memory trace, and problems.
func TestFigures(t *testing.T) {
	f := &flags{figures: filepath.Join(t.TempDir(), "f.jsonl"), trace: true}
	in := &input{keys: 7, bytes: 6e6}
	succeeded := &contenderRuns{c: contender{peer: "partd", label: "partd sort"}}
	for i, seconds := range []float64{3, 1, 2} {
		succeeded.runs = append(succeeded.runs, run{Round: i + 1, Bytes: in.bytes, Seconds: seconds, VmHWM: int64(10 * seconds), trace: [][2]float64{{0, seconds}}})
	}
	failed := &contenderRuns{c: contender{label: "other"}, runs: []run{{Round: 1, Bytes: in.bytes, Problem: "out of memory"}}, skip: "failed"}
	must.Do(t, f.writeFigures(in, job{name: "sort"}, []*contenderRuns{succeeded, failed}))
	got, err := os.ReadFile(f.figures)
	want := `{"bench":"files","job":"sort","who":"partd sort","x":7,"value":3,"least":2,"most":6,"unit":"MB/s","runs":3,"peak_bytes":30,"trace":[[0,2]]}
{"bench":"files","job":"sort","who":"other","x":7,"value":0,"unit":"MB/s","runs":0,"problem":"out of memory"}
`
	if err != nil || string(got) != want {
		t.Errorf("writeFigures wrote (error %v)\n%s\nwant\n%s", err, got, want)
	}
}

// TestMain makes the test binary act as partd if it is run by that name.
func TestMain(m *testing.M) {
	procs.Roles{"partd": procs.Program(cli.Main)}.Play()
	os.Exit(m.Run())
}

// smallTables returns flags that generate small tables.
func smallTables(t *testing.T) flags {
	t.Helper()
	dir := t.TempDir()
	procs.Link(t, dir, "partd")
	f := defaults()
	f.rows, f.groups, f.seed, f.memory, f.threads, f.partd, f.dir = 10_000, 10, 7, 16<<20, 2, filepath.Join(dir, "partd"), dir
	return f
}

// TestQuestions checks that partd's answer to each question equals the answer that this benchmark
// computes, and that changed, lost and duplicate rows are detected.
func TestQuestions(t *testing.T) {
	tables := smallTables(t)
	for _, c := range []struct {
		name    string
		missing int
		sorted  bool
	}{{"plain", 0, false}, {"missing", 5, false}, {"sorted", 5, true}} {
		t.Run(c.name, func(t *testing.T) {
			f := tables
			f.missingPercent, f.sortedInput = c.missing, c.sorted
			for _, j := range questionJobs() {
				in := must.Get(f.questionInput(context.Background(), j.question))(t)
				out := t.TempDir()
				if b, err := j.contenders[0].command(&f, in, out).CombinedOutput(); err != nil {
					t.Fatalf("running partd for question %s: %v: %s", j.name, err, b)
				}
				if err := j.check(j.contenders[0], in, out); err != nil {
					t.Errorf("partd's answer to question %s: %v", j.name, err)
				}
				corruptOutput(t, j, in, out)
			}
		})
	}
}

// corruptOutput damages an output in several ways, and checks that each is detected.
func corruptOutput(t *testing.T, j job, in *input, out string) {
	t.Helper()
	b := must.Get(os.ReadFile(filepath.Join(out, "result.csv")))(t)
	lines := strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 10 {
		t.Fatalf("the output of question %s has too few lines to damage it: %d", j.name, len(lines))
	}
	last := len(lines) - 2
	digit := strings.LastIndexByte(lines[last], ',') + 1
	digit += strings.IndexAny(lines[last][digit:], "123456789")
	changed := lines[last][:digit] + string('1'+(lines[last][digit]-'0')%9) + lines[last][digit+1:]
	wrongOutputs := map[string]string{
		"lost row":      strings.Join(lines[:last], "") + lines[last+1],
		"duplicate row": strings.Join(lines[:last], "") + lines[1] + lines[1] + lines[last+1],
		"replaced row":  strings.Join(lines[:last], "") + lines[1] + lines[last+1],
		"changed digit": strings.Join(lines[:last], "") + changed + lines[last+1],
	}
	if cut := len(in.tables[0].columns); j.question.right != "" {
		x, y := strings.SplitN(lines[1], ",", cut+1), strings.SplitN(lines[1], ",", cut+1)
		for i := 2; i < last && x[cut] == y[cut]; i++ {
			y = strings.SplitN(lines[i], ",", cut+1)
			lines[1], lines[i] = strings.Join(append(x[:cut:cut], y[cut]), ","), strings.Join(append(y[:cut:cut], x[cut]), ",")
		}
		wrongOutputs["two rows with exchanged partners"] = strings.Join(lines, "")
	}
	for label, wrong := range wrongOutputs {
		write(t, filepath.Join(out, "result.csv"), wrong)
		if err := j.check(j.contenders[0], in, out); err == nil || !strings.HasPrefix(err.Error(), "wrong output") {
			t.Errorf("question %s, output with a %s: error = %v, want one about a wrong output", j.name, label, err)
		}
	}
}

// TestQuestionsOfPeers checks the answers of other tools to two random questions each or, if PARTD_QUESTIONS is set, to
// all. For Polars and DataFusion, it omits questions that differ from other questions only in the names of columns.
func TestQuestionsOfPeers(t *testing.T) {
	f := smallTables(t)
	f.missingPercent = 5
	jobs, answers := questionJobs(), map[string]int{}
	rand.Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
	for _, j := range jobs {
		for _, c := range j.contenders[1:] {
			if (c.peer == "polars" || c.peer == "datafusion") && strings.Contains("q1 q2 q4 q5 q7 j1 j2 j4", j.name) {
				continue
			}
			if answers[c.label]++; answers[c.label] > 2 && os.Getenv("PARTD_QUESTIONS") == "" {
				continue
			}
			if reason := f.missingProgram(c.peer); reason != "" {
				if os.Getenv("PARTD_REQUIRE_ALL") != "" && c.peer == "duckdb" {
					t.Fatal(reason)
				}
				continue
			}
			in := must.Get(f.questionInput(context.Background(), j.question))(t)
			out := t.TempDir()
			if b, err := c.command(&f, in, out).CombinedOutput(); err != nil {
				t.Errorf("running %s for question %s: %v: %s", c.label, j.name, err, b)
			} else if err := j.check(c, in, out); err != nil {
				t.Errorf("the answer of %s to question %s: %v", c.label, j.name, err)
			}
		}
	}
}

// TestQuestionsTable checks that the table has the reason for each failure, and one ratio for all questions.
func TestQuestionsTable(t *testing.T) {
	in := &input{name: "9 rows", bytes: 5e6}
	runsOf := func(peer string, seconds float64, problem string) *contenderRuns {
		return &contenderRuns{c: contender{peer: strings.ToLower(peer), label: peer}, runs: []run{{Round: 1, Bytes: in.bytes, Seconds: seconds, CPU: seconds, VmHWM: 7 << 20, Problem: problem}}}
	}
	absent := &contenderRuns{c: contender{peer: "gawk", label: "gawk"}, skip: "gawk is not installed"}
	var answered []questionResult
	for _, all := range [][]*contenderRuns{
		{runsOf("partd", 1, ""), runsOf("DuckDB", 4, ""), runsOf("polars", 3, "wrong output: 1 rows, want 2"), absent},
		{runsOf("partd", 2, ""), runsOf("DuckDB", 0, "exit status 1: Out of Memory Error: failed"), runsOf("polars", 2, "")},
	} {
		j := questionJobs()[len(answered)]
		answered = append(answered, questionResult{in, j, summarize(all)})
	}
	var b strings.Builder
	f := defaults()
	must.Do(t, f.writeQuestions(&b, answered))
	const want = `
9 rows; partd with --memory 256MiB, DuckDB and DataFusion with 488MiB, the other programs without a limit; 2 threads. Seconds / CPU seconds / peak MiB:

| question | partd | DuckDB | polars | best other ÷ partd |
|---|---|---|---|---|
| q1 sum v1 by id1 | 1.00 / 1.00 / 7 | 4.00 / 4.00 / 7 | wrong output: 1 rows, want 2 | 4.00, DuckDB |
| q2 sum v1 by id1, id2 | 2.00 / 2.00 / 7 | out of memory | 2.00 / 2.00 / 7 | 1.00, polars |

Best other ÷ partd: 2.00 (geometric mean of 2), minimum 1.00 (q2). Peak VmHWM of partd: 7 MiB (limit: 311).

Not measured: gawk is not installed.
`
	if b.String() != want {
		t.Errorf("writeQuestions wrote\n%s\nwant\n%s", b.String(), want)
	}
}
