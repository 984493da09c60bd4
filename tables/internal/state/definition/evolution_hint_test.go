package definition

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

// TestRefusedWideningNamesTheEvolution checks that the error about wider numbers names the evolution that allows them.
func TestRefusedWideningNamesTheEvolution(t *testing.T) {
	columns := func(typ arrow.DataType) *arrow.Schema {
		return arrow.NewSchema([]arrow.Field{{Name: "a", Type: typ, Nullable: true}}, nil)
	}
	for _, e := range []Evolution{"", Strict, AddOnly} {
		_, err := e.ChangesFor(columns(arrow.PrimitiveTypes.Int64), columns(arrow.PrimitiveTypes.Int32))
		if err == nil || !strings.Contains(err.Error(), `set the table's evolution to "compatible"`) {
			t.Errorf("evolution %q: int64 into int32: got %v, want an error that names the evolution", e, err)
		}
	}
	if _, err := Strict.ChangesFor(columns(arrow.BinaryTypes.String), columns(arrow.PrimitiveTypes.Int32)); err == nil || strings.Contains(err.Error(), "compatible") {
		t.Errorf("text into int32: got %v, want an error without a hint", err)
	}
}
