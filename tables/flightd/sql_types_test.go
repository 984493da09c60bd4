package flightd

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"google.golang.org/grpc/codes"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestSQLTypesOfParameters checks that parameters can have any type, and that the types of the result's columns
// depend on the parameters' types. The info of a statement with parameters must have no schema, because clients
// refuse rows whose schema differs from that in the info. The parameter of LIKE must be text.
func TestSQLTypesOfParameters(t *testing.T) {
	s := serveDuck(t)
	s.put(t, "", "t", 3)
	ctx := t.Context()
	for _, c := range []struct{ sql, value, want string }{
		{"SELECT n FROM t WHERE s LIKE ?", `"%1"`, "n int64: 1"},
		{"SELECT n FROM t WHERE s NOT ILIKE ?", `"TEXT 1"`, "n int64: 0 2"},
		{"SELECT n FROM t WHERE s LIKE ? ESCAPE '!'", `"text 1"`, "n int64: 1"},
		{"SELECT n FROM t WHERE s GLOB ?", `"*2"`, "n int64: 2"},
		{"SELECT n FROM t WHERE s = $1 OR $1 IS NULL", `"text 1"`, "n int64: 1"},
		{"SELECT ? AS x", `"a"`, "x utf8: a"},
		{"SELECT ? AS x", `7`, "x int64: 7"},
		{"SELECT coalesce(?, 1) AS x", `7`, "x int64: 7"},
		{"SELECT n FROM t WHERE n = ?", `2`, "n int64: 2"},
	} {
		p, err := s.client.Prepare(ctx, c.sql)
		if err != nil {
			t.Fatalf("Prepare(%q): %v", c.sql, err)
		}
		if isPattern := strings.Contains(c.sql, "LIKE") || strings.Contains(c.sql, "GLOB"); isPattern && p.DatasetSchema().Field(0).Name != "n" || p.ParameterSchema().Field(0).Type.ID() == arrow.NULL {
			t.Errorf("Prepare(%q) returned parameters %v and result %v, want a typed parameter, and column n", c.sql, p.ParameterSchema(), p.DatasetSchema())
		}
		kind := arrow.DataType(arrow.PrimitiveTypes.Int64)
		if c.value[0] == '"' {
			kind = arrow.BinaryTypes.String
		}
		row := tabletest.ParseRows(t, arrow.NewSchema([]arrow.Field{{Name: "1", Type: kind}}, nil), `[{"1":`+c.value+`}]`)
		p.SetParameters(row)
		info, err := p.Execute(ctx)
		if err != nil || info.Schema != nil {
			t.Fatalf("Execute of %q = %v, error %v; want no schema", c.sql, info, err)
		}
		schema, all, err := s.fetch(t, info)
		if err != nil {
			t.Errorf("fetching the result of %q failed: %v", c.sql, err)
			continue
		}
		got := schema.Field(0).Name + " " + schema.Field(0).Type.String() + ":"
		for _, b := range all {
			for i := range int(b.NumRows()) {
				got += " " + b.Column(0).ValueStr(i)
			}
		}
		if got != c.want || schema.NumFields() != 1 {
			t.Errorf("%s returned %q, want %q", c.sql, got, c.want)
		}
		described, err := p.GetSchema(ctx)
		if err != nil {
			t.Errorf("GetSchema of %q failed: %v", c.sql, err)
		} else if gotSchema, err := flight.DeserializeSchema(described.Schema, memory.DefaultAllocator); err != nil || !gotSchema.Equal(schema) {
			t.Errorf("%s: GetSchema returned %v, error %v, but the rows have %v", c.sql, gotSchema, err, schema)
		}
		must.Do(t, p.Close(ctx))
	}
	_, err := s.client.Execute(ctx, "SELECT 1 AS a, '101'::BIT AS b")
	wantCode(t, err, codes.InvalidArgument, `column "b"`)
	if strings.Contains(err.Error(), "{") {
		t.Errorf("the error contains JSON: %v", err)
	}
}

// TestSQLInfosAreComplete checks that every id of GetSqlInfo has a value, because drivers fail if a value is missing.
func TestSQLInfosAreComplete(t *testing.T) {
	known := sqlInfos(false, "v1.2.3")
	if version := known[flightsql.SqlInfoFlightSqlServerVersion]; version != "v1.2.3" {
		t.Errorf("the server's version is %v, want v1.2.3", version)
	}
	for id, name := range pb.SqlInfo_name {
		if known[flightsql.SqlInfo(id)] == nil {
			t.Error("sqlInfos has no value for", name)
		}
	}
	s := serveSQL(t, Read)
	var ids []flightsql.SqlInfo
	for id := range pb.SqlInfo_name {
		ids = append(ids, flightsql.SqlInfo(id))
	}
	infos, err := s.client.GetSqlInfo(t.Context(), ids)
	if got := s.values(t, infos, err); len(got) != len(slices.Collect(maps.Keys(pb.SqlInfo_name))) {
		t.Errorf("GetSqlInfo of all ids returned only %d values: %q", len(got), got)
	}
}

func TestSQLTypeInfo(t *testing.T) {
	s := serveSQL(t, Read)
	infos, err := s.client.GetXdbcTypeInfo(t.Context(), nil)
	if got := s.values(t, infos, err); len(got) != len(xdbcTypes) {
		t.Errorf("GetXdbcTypeInfo returned %d types, want %d: %q", len(got), len(xdbcTypes), got)
	}
	timestamp := int32(pb.XdbcDataType_XDBC_TIMESTAMP)
	infos, err = s.client.GetXdbcTypeInfo(t.Context(), &timestamp)
	if got := s.values(t, infos, err); len(got) != 1 || got[0] != "TIMESTAMP|93|29|'|'|(null)|1|false|3|(null)|false|false|TIMESTAMP|(null)|(null)|9|3|(null)|(null)" {
		t.Errorf("GetXdbcTypeInfo for TIMESTAMP returned %q, want the description of type TIMESTAMP", got)
	}
}

// TestSQLViewTypes checks that a table with columns of view types is listed with the types that SQL results have.
func TestSQLViewTypes(t *testing.T) {
	s := serveSQL(t, Read)
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.StringView, Nullable: true},
		{Name: "b", Type: arrow.BinaryTypes.BinaryView, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.BinaryTypes.StringView), Nullable: true},
	}, nil)
	batch := tabletest.ParseRows(t, columns, `[{"s":"x","b":"eA==","l":["y"]}]`)
	must.Get(s.store.Bucket("").Table("views").Put(t.Context(), reader(t, batch), tables.PutError, nil))(t)
	info := must.Get(s.client.GetTables(t.Context(), &flightsql.GetTablesOpts{IncludeSchema: true}))(t)
	_, all, err := s.fetch(t, info)
	must.Do(t, err)
	listed := must.Get(flight.DeserializeSchema(all[0].Column(4).(*array.Binary).Value(0), memory.DefaultAllocator))(t)
	got := ""
	for _, f := range listed.Fields() {
		got += fmt.Sprintf("%s %v, ", f.Name, f.Type)
	}
	if want := "s utf8, b binary, l list<item: utf8, nullable>, "; got != want {
		t.Errorf("GetTables lists the columns %s, want %s", got, want)
	}
}

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
