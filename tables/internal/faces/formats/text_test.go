package formats

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

// TestFilesOfOtherPrograms checks that names and contents mean the same as in the command partd: tab-separated and
// compressed files, and byte order marks. It also checks JSON arrays.
func TestFilesOfOtherPrograms(t *testing.T) {
	const bom = "\ufeff"
	gz := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	const rows = `{"a":1,"b":"x"}` + "\n" + `{"a":2,"b":"y"}` + "\n"
	many := strings.Repeat(`{"a":1,"b":"[x\"]"},`+"\n", 50_000)
	for _, c := range []struct{ name, text, want string }{
		{"x.tsv", "a\tb\n1\tx\n2\ty\n", rows},
		{"x.TAB", bom + "a\tb\n1\tx\n2\ty\n", rows},
		{"x.tsv", "a\tb\n1\t\"x\"\n2\t\"\n", `{"a":1,"b":"\"x\""}` + "\n" + `{"a":2,"b":"\""}` + "\n"},
		{"x.tsv", "a\n\n\"\n", `{"a":null}` + "\n" + `{"a":"\""}` + "\n"},
		{"x.csv.gz", gz("a,b\n1,x\n2,y\n"), rows},
		{"x.csv", gz(bom+"a,b\n1,x\n") + gz("2,y\n"), rows},
		{"x.tsv.GZ", gz("a\tb\n1\tx\n2\ty\n"), rows},
		{"x.ndjson.gz", gz(rows), rows},
		{"x.jsonl", bom + rows, rows},
		{"x.json", bom + rows, rows},
		{"x.json", "[" + strings.ReplaceAll(strings.TrimSpace(rows), "\n", ",") + "]", rows},
		{"x.json.gz", gz(bom + " [\r\n {\"a\": 1,\n\"b\": \"x\"} ,\n{\"a\":2,\"b\":\"y\"}\n]\n"), rows},
		{"x.jsonl", `[{"a":{"b":["],[","z"]}},{"a":null}]`, ""},
		{"x.json", "[" + many + `{"a":2,"b":"y"}]`, strings.ReplaceAll(many, "},\n", "}\n") + `{"a":2,"b":"y"}` + "\n"},
	} {
		for _, in := range []*Input{fileOf(t, c.name, c.text), pipeOf(t, c.name, c.text)} {
			got, err := content(t, in)
			if _, got, _ := strings.Cut(got, "\n"); err != nil || got != c.want && c.want != "" {
				t.Errorf("%s with %.60q: read %.200s, %v, want %.200s", c.name, c.text, got, err, c.want)
			}
		}
	}
	for text, want := range map[string]string{
		`[{"a":1},{"a":2}`:   "not closed",
		`[{"a":1}{"a":2}]`:   "line 1: invalid character '{'",
		`[{"a":1},]`:         "not closed",
		`[,{"a":1}]`:         "line 1: each line must be",
		`[{"a":1},,{"a":1}]`: "line 2: each line must be",
		`[{"a":1}]{"a":2}`:   "line 2: each line must be",
		`[{"a":1}]]`:         "line 2: each line must be",
		`[{"a":1]}`:          "not closed",
		`[1,2]`:              "line 1: each line must be",
		"[{\"a\":\"\n\"}]":   "line 1: ",
		`[]`:                 "no object",
	} {
		if got, err := content(t, fileOf(t, "x.json", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: read %s, %v, want an error with %s", text, got, err, want)
		}
	}
}
