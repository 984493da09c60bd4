package page

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// TestOperations checks that the page offers exactly the operations that are marked for it, under each of their
// names, and that docs/dev/tables-wire.md describes them.
func TestOperations(t *testing.T) {
	s := serve(t, flightd.Options{})
	docs := must.Get(os.ReadFile(filepath.Join("..", "..", "docs", "dev", "tables-wire.md")))(t)
	_, list, _ := strings.Cut(string(docs), "## `POST /api/action`")
	for _, o := range operations.All() {
		if isOffered := slices.ContainsFunc(actions, func(a action) bool { return a.Entry == o }); isOffered != o.Page {
			t.Errorf("operation %s is on the page: %v, want %v", o.Name, isOffered, o.Page)
		}
		if strings.Contains(list, "| `"+o.Name+"` |") != o.Page {
			t.Errorf("operation %s is in docs/dev/tables-wire.md: %v, want %v", o.Name, !o.Page, o.Page)
		}
		if o.Page && o.Slots == operations.NoSlot {
			t.Errorf("operation %s uses no slot, so nothing limits it", o.Name)
		}
		for _, name := range append([]string{o.Name, strings.ReplaceAll(o.Name, "_", "-")}, o.Aliases...) {
			a, text := s.post("/api/action?dry=1", jsonOf(t, map[string]any{"action": name}))
			if s.expect(a, text, map[bool]int{true: 200, false: 400}[o.Page]); o.Page && !strings.Contains(text, "partd-tables "+o.Command) {
				t.Errorf("dry run of %s: got %s, want the command %q", name, text, o.Command)
			}
		}
	}
}
