package sorted

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

func TestHasOrder(t *testing.T) {
	for typ, want := range map[arrow.DataType]bool{
		arrow.Null: false, arrow.ListOf(arrow.Null): false, arrow.BinaryTypes.String: true,
		&arrow.Decimal128Type{Precision: 5}: true, &arrow.FixedSizeBinaryType{ByteWidth: 2}: true, arrow.FixedWidthTypes.Boolean: true,
	} {
		if HasOrder(typ) != want {
			t.Errorf("HasOrder(%s) = %v, want %v", typ, !want, want)
		}
	}
}
