package quickstart

import (
	"testing"

	_ "github.com/apache/iceberg-go/table" // its initialization loads the list
	"github.com/substrait-io/substrait-go/v8/extensions"
)

// TestListIsEmpty checks that nothing has parsed Substrait's list of functions when main begins.
func TestListIsEmpty(t *testing.T) {
	if n := len(extensions.GetDefaultCollectionWithNoError().GetAllScalarFunctions()); n > 0 {
		t.Errorf("Substrait's list has %d functions, want 0", n)
	}
}
