package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
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
