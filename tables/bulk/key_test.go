package bulk

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHiveLetters checks that values which differ only in case have different names on a file system that ignores case,
// and that each name has its value.
func TestHiveLetters(t *testing.T) {
	for _, values := range [][]string{{"A", "a"}, {"aB", "Ab", "AB", "ab"}, {"NULL", "null", "Null"}, {"É j/J", "É J/j"}, {"%4e", "%4E"}} {
		var taken []string // names in lower case
		for _, value := range values {
			isTaken := true
			for _, letters := range hiveLetters {
				name := must.Get(hiveValue(value, letters))(t)
				if text := must.Get(url.PathUnescape(name))(t); text != value || !isHiveValue(name) {
					t.Errorf("the name %q has the value %q, want %q", name, text, value)
				}
				if isTaken && !slices.Contains(taken, strings.ToLower(name)) {
					taken, isTaken = append(taken, strings.ToLower(name)), false
				}
			}
			if isTaken {
				t.Errorf("%q has no name besides %q", value, taken)
			}
		}
	}
	if got := must.Get(hiveValue("a", ""))(t); got != "a" || isHiveValue("%zz") {
		t.Errorf("the name of a is %q, and isHiveValue(%%zz) is %v", got, isHiveValue("%zz"))
	}
}
