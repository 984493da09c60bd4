package sqltext

import (
	"errors"
	"testing"
)

// TestErrorAt checks the positions of errors, which count characters.
func TestErrorAt(t *testing.T) {
	cause := errors.New("wrong")
	const sql = "SELECT 'é',\n  x"
	for offset, want := range map[int]string{
		-1: "wrong", 0: "line 1, column 1: wrong", 7: "line 1, column 8: wrong", 10: "line 1, column 10: wrong",
		12: "line 1, column 12: wrong", 13: "line 2, column 1: wrong", len(sql): "line 2, column 4: wrong", len(sql) + 1: "wrong",
	} {
		if err := ErrorAt(sql, offset, cause); err.Error() != want || !errors.Is(err, cause) {
			t.Errorf("at byte %d, the error is %q, want %q", offset, err, want)
		}
	}
	if err := RefusedAt("", 0, "%d is %w", 1, cause); err.Error() != "1 is wrong" || !errors.Is(err, cause) {
		t.Errorf("the error for an empty statement is %q", err)
	}
}

func TestQuotes(t *testing.T) {
	for got, want := range map[string]string{
		Name(`a"b`): `"a""b"`, Qualified("", "t"): `"t"`, Qualified(`s"`, "t"): `"s"""."t"`, Text("it's"): "'it''s'",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
