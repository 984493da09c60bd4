package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/pull"
)

// TestDetails checks the kinds and the fields that a program gets if it asks for errors as JSON.
func TestDetails(t *testing.T) {
	t.Setenv("PARTD_ERRORS", "json")
	dir := t.TempDir()
	file, store, split, times := filepath.Join(dir, "in.csv"), filepath.Join(dir, "d"), filepath.Join(dir, "split"), filepath.Join(dir, "times.csv")
	must.Do(t, os.WriteFile(file, []byte("a,b\n1,2\n"), 0o666))
	must.Do(t, os.WriteFile(times, []byte("t,t2\n2024-01-01T00:00:00Z,1\n2024-01-01T00:00:00Z,1\n"), 0o666))
	mustRun(t, "", "put", "t", file, "--dir", store)
	mustRun(t, "", "split", "--by", "a", file, "-o", split)
	for _, tc := range []struct {
		want string // kinds, and the names of fields
		args []string
	}{
		{"not_found", []string{"get", "none", "--dir", store}},
		{"moment not_found after time", []string{"get", "t", "--at", "2020-01-01", "--dir", store}},
		{"exists", []string{"put", "t", file, "--dir", store}},
		{"sql column line", []string{"sql", "SELEC 1", "--dir", store}},
		{"usage", []string{"get", "t", "--no-such-flag"}},
		{"schema", []string{"split", "--by", "z", file, "-o", filepath.Join(dir, "o")}},
		{"dir_not_empty", []string{"split", "--by", "a", file, "-o", split}},
		{"other_keys", []string{"split", "--by", "b", file, "-o", split, "--force"}},
		{"no_such_file not_found", []string{"split", "--by", "a", filepath.Join(dir, "none.csv"), "-o", filepath.Join(dir, "o")}},
		{"unknown_format usage formats", []string{"split", "--by", "a", filepath.Join(dir, "none"), "-o", filepath.Join(dir, "o")}},
		{"not_per_key sql column line", []string{"each", "--by", "a", "SELECT count(*) FROM rows", "rows=" + file}},
		{"invalid", []string{"pull", "save", "p", file, "--dir", filepath.Join(dir, "p")}},
		{"invalid", []string{"pull", "save", "", times, "--dir", filepath.Join(dir, "p")}},
		{"schema name", []string{"pull", "save", "p", times, "--dir", filepath.Join(dir, "p")}},
		{"not_found", []string{"pull", "get", "none", "--dir", filepath.Join(dir, "p")}},
	} {
		_, stderr, _ := command(t, "", tc.args...)
		var object struct {
			Kinds []string
			Error string
		}
		fields := map[string]any{}
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		last := []byte(lines[len(lines)-1])
		must.Do(t, json.Unmarshal(last, &object))
		must.Do(t, json.Unmarshal(last, &fields))
		delete(fields, "kinds")
		delete(fields, "error")
		got := object.Kinds
		for name := range fields {
			got = append(got, name)
		}
		slices.Sort(got[len(object.Kinds):])
		if strings.Join(got, " ") != tc.want || object.Error == "" || strings.Contains(object.Error, "use --") || strings.HasPrefix(object.Error, "pull: ") {
			t.Errorf("%q: %s, want %q", tc.args, last, tc.want)
		}
	}
	for want, err := range map[string]error{
		"sync_failed not_found": &pull.Error{Op: "load", Name: "x", Err: fmt.Errorf("%w: %w", pull.ErrSyncFailed, tables.ErrNotFound)},
		"conflict":              &pull.Error{Op: "save", Name: "x", Err: pull.ErrConflict},
		"":                      errors.New("the manifest's column \"price\" is not a time column"),
	} {
		if got := strings.Join(addDetails(err, nil, map[string]any{}), " "); got != want {
			t.Errorf("%v has the kinds %q, want %q", err, got, want)
		}
	}
}
