package tables_test

import (
	"errors"
	"testing"

	"github.com/go-partd/partd/tables"
)

func TestQueryWithoutEngine(t *testing.T) {
	s, err := tables.Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Query(t.Context(), "SELECT 1", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Query without an engine: error = %v, want ErrUnsupported", err)
	}
	if _, err := s.Describe(t.Context(), "SELECT 1", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Describe without an engine: error = %v, want ErrUnsupported", err)
	}
}
