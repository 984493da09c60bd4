package tabletest

import (
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
)

// KindErrors returns an error of each kind, by the kind's word. The text of each error is x, so that a test can show that
// nothing depends on texts.
func KindErrors() map[string]error {
	moment := time.Date(2027, 1, 2, 3, 4, 5, 6, time.UTC)
	fields := kinds.Fields{
		Time: moment, Before: moment.Add(-time.Hour), After: moment.Add(time.Hour), Name: "größe", Line: 3, Column: 7, Size: 20, Limit: 10, Count: 2,
		Rows: []string{"row"}, Violations: []tables.Violation{{Rule: "positive", Count: 4}},
	}
	all := map[string]error{}
	for _, k := range kinds.All {
		d := &kinds.Details{Kinds: []string{k.Word}, Fields: fields, Kind: k}
		all[k.Word] = &kinds.Error{Kind: k, Text: "x", Fields: kinds.Fields{Line: 3, Size: 20, Limit: 10}}
		if wrapped := d.GoError("x").(*kinds.Error).Unwrap(); len(wrapped) > 0 {
			all[k.Word] = renamed{wrapped[0]}
		}
	}
	return all
}

// renamed is an error whose text is x.
type renamed struct{ error }

func (renamed) Error() string   { return "x" }
func (r renamed) Unwrap() error { return r.error }
