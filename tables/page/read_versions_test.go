package page

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

// TestVersionsInTail checks that the page lists and reads the version of rows that are still in the tail, and that an
// expired version is not found.
func TestVersionsInTail(t *testing.T) {
	s := serve(t, flightd.Options{})
	for n := range 3 {
		a, text := s.post("/api/put?bucket=B&table=t&mode=append&format=csv", fmt.Sprintf("n\n%d\n", n))
		s.expect(a, text, 200, `"version":1`)
	}
	a, text := s.get("/api/table?bucket=B&table=t")
	s.expect(a, text, 200, `"rows":3`, `"version":1`)
	var out struct{ Versions []versionJSON }
	if err := json.Unmarshal([]byte(text), &out); err != nil || len(out.Versions) != 1 || out.Versions[0].Rows != 3 || !out.Versions[0].Current {
		t.Fatalf("versions %+v, error %v; want one version of 3 rows", out.Versions, err)
	}
	for _, path := range []string{"/api/rows?bucket=B&table=t", "/api/rows?bucket=B&table=t&version=1"} {
		a, text := s.get(path)
		s.expect(a, text, 200)
		if a.Header.Get("X-Partd-Rows") != "3" || a.Header.Get("X-Partd-Version") != "1" {
			t.Errorf("%s: %v, want 3 rows of version 1", path, a.Header)
		}
	}
	a, text = s.post("/api/put?bucket=B&table=t&mode=append&format=csv", "n\n9\n")
	s.expect(a, text, 200, `"version":2`)
	a, text = s.get("/api/changes?bucket=B&table=t&format=csv&since=1")
	s.expect(a, text, 200, "9,insert")
	if strings.Count(text, "insert") != 1 || a.Header.Get("Partd-Version") != "2" {
		t.Errorf("changes since version 1: %s, version %s; want row 9 and version 2", text, a.Header.Get("Partd-Version"))
	}
	s.putQuery("B", "t", "SELECT 7 AS n")
	if _, err := s.store.Expire(t.Context(), &tables.MaintainOptions{OlderThan: 1, Keep: 1}); err != nil {
		t.Fatal(err)
	}
	for path, status := range map[string]int{"rows?bucket=B&table=t&version=2": 404, "changes?bucket=B&table=t&format=csv&since=2": 404, "rows?bucket=B&table=t&version=3": 200} {
		a, text := s.get("/api/" + path)
		s.expect(a, text, status)
	}
}
