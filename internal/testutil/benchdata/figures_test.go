package benchdata

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestAppendFigures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.jsonl")
	figure := Figure{Bench: "b", Job: "sort", Contender: "partd", Unit: "s"}.WithRuns([]float64{3, 1, 2})
	other := Figure{Bench: "b", Job: "sort", Contender: "other", Unit: "s", Problem: "out of memory"}.WithRuns(nil)
	for _, f := range []Figure{figure, other} {
		must.Do(t, AppendFigures(path, f))
	}
	got, err := os.ReadFile(path)
	want := `{"bench":"b","job":"sort","who":"partd","value":2,"least":1,"most":3,"unit":"s","runs":3}
{"bench":"b","job":"sort","who":"other","value":0,"unit":"s","runs":0,"problem":"out of memory"}
`
	if err != nil || string(got) != want {
		t.Errorf("reading the file: got error %v and\n%s\nwant\n%s", err, got, want)
	}
	if err := AppendFigures("", figure); err != nil {
		t.Error("AppendFigures without a path:", err)
	}
}
