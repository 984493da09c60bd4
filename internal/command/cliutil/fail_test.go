package cliutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestFail checks that people get a text with advice, and that a program that asks gets all kinds of an error instead.
func TestFail(t *testing.T) {
	full := Advise(fmt.Errorf("a: %w (%w)", syscall.ENOSPC, partd.ErrUnknownOutcome), ": use --b")
	for _, tc := range []struct {
		code   int
		err    error
		lines  []string
		text   string
		object string
	}{
		{ExitFailed, errors.New("h"), nil, "p: h\n", `{"detail":1,"error":"h","kinds":["internal"]}` + "\n"},
		{
			ExitFailed, full, nil, "p: a: no space left on device (" + partd.ErrUnknownOutcome.Error() + "): use --b\n",
			`{"detail":1,"error":"a: no space left on device (` + partd.ErrUnknownOutcome.Error() + `)","kinds":["unknown_outcome","disk_full"]}` + "\n",
		},
		{ExitUsage, Usagef("b"), []string{"Try c."}, "p: b\nTry c.\n", `{"detail":1,"error":"b","kinds":["usage"]}` + "\n"},
		{ExitFailed, &partd.CorruptError{Path: "f", Offset: -1, Err: errors.New("g")}, nil, "p: f is corrupt: g\n", `{"detail":1,"error":"f is corrupt: g","kinds":["damaged"]}` + "\n"},
		{ExitFailed, &fs.PathError{Op: "open", Path: "f", Err: syscall.ENOENT}, nil, "p: open f: no such file or directory\n", `{"detail":1,"error":"open f: no such file or directory","kinds":["no_such_file","not_found"]}` + "\n"},
	} {
		for variable, want := range map[string]string{"": tc.text, "json": tc.object} {
			t.Setenv("PARTD_ERRORS", variable)
			var out strings.Builder
			p := &Program{Err: &out, name: "p", Details: func(_ error, words []string, object map[string]any) []string { object["detail"] = 1; return words }}
			if code := p.Fail(tc.code, tc.err, tc.err.Error(), tc.lines...); code != tc.code || out.String() != want {
				t.Errorf("exit code %d, output %q, want %q", code, &out, want)
			}
		}
	}
}

// TestKindsAreDocumented checks that docs/cli.md lists exactly the words that programs write.
func TestKindsAreDocumented(t *testing.T) {
	page := string(must.Get(os.ReadFile("../../../docs/cli.md"))(t))
	_, list, _ := strings.Cut(page, "these words do not change:")
	list, _, _ = strings.Cut(list, ".\n")
	want := []string{"usage", "interrupted", "damaged"}
	for _, k := range kinds {
		want = append(want, k.word)
	}
	want = slices.Compact(append(want, "internal"))
	if got := strings.Split(strings.Trim(strings.ReplaceAll(list, "\n", " "), "` "), "`, `"); !slices.Equal(got, want) {
		t.Errorf("docs/cli.md lists %q, want %q", got, want)
	}
}
