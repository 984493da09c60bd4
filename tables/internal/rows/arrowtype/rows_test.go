package arrowtype_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// refused lists the types that tables cannot store.
var refused = []arrow.Type{
	arrow.INTERVAL_MONTHS, arrow.INTERVAL_DAY_TIME, arrow.INTERVAL_MONTH_DAY_NANO, arrow.DECIMAL256, arrow.SPARSE_UNION, arrow.DENSE_UNION,
	arrow.LIST_VIEW, arrow.LARGE_LIST_VIEW,
}

// TestRows checks that each of Arrow's types has a row with the functions of its kind, and that values of the type are
// compared by TestValues if tables store them.
func TestRows(t *testing.T) {
	for id := arrow.NULL; !strings.HasPrefix(id.String(), "Type("); id++ {
		r := arrowtype.ByID(id)
		var lacks bool
		switch r.Kind {
		case arrowtype.None:
			lacks = true
		case arrowtype.Bool, arrowtype.Integer, arrowtype.Date, arrowtype.Time, arrowtype.Timestamp, arrowtype.Duration:
			lacks = r.Ints == nil || r.IntAppender == nil
		case arrowtype.Float:
			lacks = r.Floats == nil || r.FloatAppender == nil
		case arrowtype.Decimal:
			lacks = id != arrow.DECIMAL256 && (r.Decimals == nil || r.DecimalAppender == nil)
		case arrowtype.Text, arrowtype.Binary:
			lacks = r.BytesAppender == nil
		case arrowtype.List, arrowtype.Map, arrowtype.Struct:
			lacks = r.WithFields == nil && !slices.Contains(refused, id)
		}
		if lacks {
			t.Errorf("%s has no row, or its row lacks a function of its kind: %+v", id, r)
		}
		i := slices.IndexFunc(types(t), func(dt arrow.DataType) bool { return dt.ID() == id })
		if isRefused := slices.Contains(refused, id); i < 0 && !isRefused {
			t.Errorf("%s is neither refused nor among the types of TestValues", id)
		} else if i >= 0 {
			if isRefused && schema.CanPut(arrow.PrimitiveTypes.Int8, types(t)[i]) {
				t.Errorf("int8 can be put into a column of type %s, which is refused", types(t)[i])
			}
			if _, err := schema.StoredType(types(t)[i]); (err != nil) != isRefused {
				t.Errorf("StoredType(%s) = %v, but the type is refused: %v", types(t)[i], err, isRefused)
			}
		}
	}
}

// TestFields checks that Fields and WithFields are inverse, for every nested type that tables store.
func TestFields(t *testing.T) {
	for _, dt := range types(t) {
		fields := arrowtype.Fields(dt)
		if arrowtype.Of(dt).WithFields == nil {
			if fields != nil {
				t.Errorf("Fields(%s) = %v, want none", dt, fields)
			}
			continue
		}
		if got := arrowtype.WithFields(dt, fields); !arrow.TypeEqual(got, dt) || len(fields) == 0 {
			t.Errorf("WithFields(%s, %v) = %s", dt, fields, got)
		}
	}
}
