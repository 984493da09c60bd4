package flightd

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/codes"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

func TestSQLIngest(t *testing.T) {
	s := serveSQL(t, Admin)
	ctx := t.Context()
	const (
		missingCreates = flightsql.TableDefinitionOptionsTableNotExistOptionCreate
		missingFails   = flightsql.TableDefinitionOptionsTableNotExistOptionFail
		existsFails    = flightsql.TableDefinitionOptionsTableExistsOptionFail
		existsAppends  = flightsql.TableDefinitionOptionsTableExistsOptionAppend
		existsReplaces = flightsql.TableDefinitionOptionsTableExistsOptionReplace
	)
	ingest := func(o *flightsql.ExecuteIngestOpts) (int64, error) {
		if o.TableDefinitionOptions == nil {
			o.TableDefinitionOptions = &flightsql.TableDefinitionOptions{IfNotExist: missingCreates, IfExists: existsAppends}
		}
		return s.client.ExecuteIngest(ctx, reader(t, numbers(2), numbers(3)), o)
	}
	optionsFor := func(missing flightsql.TableDefinitionOptionsTableNotExistOption, exists flightsql.TableDefinitionOptionsTableExistsOption) *flightsql.ExecuteIngestOpts {
		bucket, catalog := "b", catalogName
		return &flightsql.ExecuteIngestOpts{
			Table: "t", Schema: &bucket, Catalog: &catalog,
			TableDefinitionOptions: &flightsql.TableDefinitionOptions{IfNotExist: missing, IfExists: exists},
		}
	}
	rows := func() int64 {
		table := s.store.Bucket("b").Table("t")
		info := must.Get(table.Info(ctx))(t)
		return info.Rows
	}
	_, err := ingest(optionsFor(missingFails, existsAppends))
	wantCode(t, err, codes.NotFound, "")
	_, err = ingest(optionsFor(missingFails, existsReplaces))
	wantCode(t, err, codes.NotFound, "")
	if n, err := ingest(optionsFor(missingCreates, existsFails)); n != 5 || err != nil {
		t.Errorf("the ingestion that creates the table = %d, error %v; want 5 rows", n, err)
	}
	_, err = ingest(optionsFor(missingCreates, existsFails))
	wantCode(t, err, codes.AlreadyExists, "")
	for _, missing := range []flightsql.TableDefinitionOptionsTableNotExistOption{missingFails, missingCreates} {
		if n, err := ingest(optionsFor(missing, existsAppends)); n != 5 || err != nil {
			t.Errorf("an appending ingestion = %d, error %v; want 5 rows", n, err)
		}
	}
	if rows() != 15 {
		t.Errorf("after appending twice, the table has %d rows, want 15", rows())
	}
	retried := optionsFor(missingCreates, existsAppends)
	retried.Options = map[string]string{"id": "one"}
	for range 2 {
		if _, err := ingest(retried); err != nil {
			t.Errorf("an ingestion with an id failed: %v", err)
		}
	}
	if rows() != 20 {
		t.Errorf("after an ingestion with the same id, the table has %d rows, want 20", rows())
	}
	if _, err := ingest(optionsFor(missingFails, existsReplaces)); err != nil || rows() != 5 {
		t.Errorf("after a replacing ingestion, the table has %d rows (error %v), want 5", rows(), err)
	}
	otherCatalog := "elsewhere"
	for text, o := range map[string]*flightsql.ExecuteIngestOpts{
		"temporary":      {Table: "x", Temporary: true},
		"catalog":        {Table: "x", Catalog: &otherCatalog},
		"whether or not": optionsFor(missingFails, existsFails),
		"option":         {Table: "x", Options: map[string]string{"fast": "yes"}},
		"zero byte":      {Table: "\x00"},
	} {
		if _, err := ingest(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("refused ingestion: got error %v, want an error with %q", err, text)
		}
	}
	if _, err := s.store.Bucket("").Table("x").Info(ctx); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("after refused ingestions, Table = %v, want ErrNotFound", err)
	}
	rule := tables.RuleEdit{Add: []tables.Rule{{Name: "few", Kind: "range", Column: "n", Max: "1"}}}
	must.Do(t, s.store.Bucket("b").EditRules(ctx, rule))
	before := rows()
	_, err = ingest(optionsFor(missingCreates, existsAppends))
	wantCode(t, err, codes.InvalidArgument, `rule "few": 1 rows violate it: row 5 (n=2)`)
	if rows() != before {
		t.Errorf("the refused ingestion changed the table from %d to %d rows", before, rows())
	}
	readOnly := serveSQL(t, Read)
	_, err = readOnly.client.ExecuteIngest(ctx, reader(t, numbers(1)), optionsFor(missingCreates, existsAppends))
	wantCode(t, err, codes.PermissionDenied, "")
}
