package flightd

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
)

// TestUnreadableTables checks that tables with columns of unsupported types, which other engines can create, do not
// prevent listing the bucket's other tables.
func TestUnreadableTables(t *testing.T) {
	s := serveSQL(t, Read)
	s.put(t, "b", "before", 1)
	for i, typ := range []iceberg.Type{
		iceberg.VariantType{},
		&iceberg.ListType{ElementID: 2, Element: iceberg.VariantType{}},
		iceberg.UnknownType{},
		iceberg.GeometryType{},
		iceberg.GeographyType{},
		iceberg.PrimitiveTypes.TimestampTzNs,
	} {
		meta, err := partdiceberg.NewMetadata(s.store, iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "v", Type: typ}), iceberg.UnpartitionedSpec, table.UnsortedSortOrder, iceberg.Properties{"format-version": "3"})
		if err == nil {
			_, err = partdiceberg.Commit(t.Context(), s.store, partdiceberg.Change{Bucket: "b", Table: fmt.Sprint("foreign", i), New: meta})
		}
		if err != nil {
			t.Fatalf("create a table with a column of type %v: %v", typ, err)
		}
	}
	s.put(t, "b", "zebra", 1)
	checkNames := func(list string, got []string) {
		t.Helper()
		if !slices.Contains(got, "before") || !slices.Contains(got, "zebra") {
			t.Errorf("the list of %s is %q, want at least before and zebra", list, got)
		}
	}
	info := must.Get(s.client.GetTables(t.Context(), &flightsql.GetTablesOpts{IncludeSchema: true}))(t)
	var names []string
	_, all, err := s.fetch(t, info)
	for _, b := range all {
		for i := range int(b.NumRows()) {
			names = append(names, b.Column(2).ValueStr(i))
		}
	}
	if err != nil {
		t.Error("listing tables with their schemas: ", err)
	}
	checkNames("tables with their schemas", names)
	st := must.Get(s.client.Client.ListFlights(t.Context(), &flight.Criteria{Expression: []byte(`{"bucket":"b"}`)}))(t)
	names = nil
	for {
		info, err := st.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Error("listing flights: ", err)
			break
		}
		names = append(names, info.FlightDescriptor.Path...)
	}
	checkNames("flights", names)
}
