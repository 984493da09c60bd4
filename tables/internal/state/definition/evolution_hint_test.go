package definition

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestRefusedWideningNamesTheEvolution checks that the error about wider numbers names the evolution that allows them.
func TestRefusedWideningNamesTheEvolution(t *testing.T) {
	columns := func(typ arrow.DataType) *arrow.Schema {
		return arrow.NewSchema([]arrow.Field{{Name: "a", Type: typ, Nullable: true}}, nil)
	}
	for _, e := range []Evolution{"", Strict, AddOnly} {
		_, err := e.ChangesFor(columns(arrow.PrimitiveTypes.Int64), columns(arrow.PrimitiveTypes.Int32))
		must.Fail(t, err, `set the table's evolution to "compatible"`, "evolution %q: int64 into int32", e)
	}
	if _, err := Strict.ChangesFor(columns(arrow.BinaryTypes.String), columns(arrow.PrimitiveTypes.Int32)); err == nil || strings.Contains(err.Error(), "compatible") {
		t.Errorf("text into int32: got %v, want an error without a hint", err)
	}
}
