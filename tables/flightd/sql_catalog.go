package flightd

import (
	"context"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables"
)

// The catalog has one name, and its schemas are the buckets.
const (
	theCatalog = "partd"
	tableType  = "TABLE"

	// defaultSchema is the default bucket, unless a bucket is called so: SQL and
	// tools have no names that are empty.
	defaultSchema = "default"
)

// bucketOf is the bucket that a schema is.
func (s *sqlServer) bucketOf(ctx context.Context, schema string) (string, error) {
	if schema != defaultSchema {
		return schema, nil
	}
	there, err := s.store.Bucket(schema).Exists(ctx)
	if there {
		return schema, err
	}
	return "", err
}

// rows streams what fill adds, row by row: texts, bytes, or nil.
func rows(ctx context.Context, schema *arrow.Schema, fill func(add func(...any) error) error) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	const atOnce = 512
	chunks := make(chan flight.StreamChunk)
	go produce(chunks, func() error {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer b.Release()
		n := 0
		flush := func() error {
			batch := b.NewRecordBatch()
			n = 0
			select {
			case chunks <- flight.StreamChunk{Data: batch}:
				return nil
			case <-ctx.Done():
				batch.Release()
				return canceled.Err(ctx)
			}
		}
		err := fill(func(values ...any) error {
			for i, v := range values {
				switch f := b.Field(i).(type) {
				case *array.StringBuilder:
					f.Append(v.(string))
				case *array.BinaryBuilder:
					f.Append(v.([]byte))
				}
			}
			if n++; n == atOnce {
				return flush()
			}
			return nil
		})
		if err != nil {
			return err
		}
		return flush()
	})
	return schema, chunks, nil
}

// like makes a matcher of a pattern of SQL's LIKE, with the escape \. Nil lets
// everything through.
func like(of *string) (func(string) bool, error) {
	if of == nil {
		return func(string) bool { return true }, nil
	}
	var re strings.Builder
	escaped := false
	for _, c := range *of {
		switch {
		case !escaped && c == '\\':
			escaped = true
			continue
		case !escaped && c == '%':
			re.WriteString(".*")
		case !escaped && c == '_':
			re.WriteByte('.')
		default:
			re.WriteString(regexp.QuoteMeta(string(c)))
		}
		escaped = false
	}
	compiled, err := pattern("(?s)^" + re.String() + "$")
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the pattern %.64q: %v", *of, err)
	}
	return compiled.MatchString, nil
}

// schema is one, and the bucket that it is.
type schema struct{ name, bucket string }

// schemas yields those that a pattern selects, in the catalog that is asked for.
func (s *sqlServer) schemas(ctx context.Context, catalog, pattern *string) (iter.Seq2[schema, error], error) {
	match, err := like(pattern)
	if err != nil {
		return nil, err
	}
	return func(yield func(schema, error) bool) {
		if catalog != nil && *catalog != theCatalog {
			return
		}
		unnamed, err := s.bucketOf(ctx, defaultSchema)
		if err != nil {
			yield(schema{}, err)
			return
		}
		for bucket, err := range s.store.Buckets(ctx) {
			name := bucket
			if bucket == unnamed { // which is "", unless there is one called default
				name = defaultSchema
			}
			if (err != nil || match(name) || match(bucket)) && !yield(schema{name, bucket}, err) {
				return
			}
		}
	}, nil
}

func (s *sqlServer) GetFlightInfoCatalogs(_ context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return info(desc, schema_ref.Catalogs, desc.Cmd), nil
}

func (s *sqlServer) DoGetCatalogs(ctx context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return rows(ctx, schema_ref.Catalogs, func(add func(...any) error) error { return add(theCatalog) })
}

func (s *sqlServer) GetFlightInfoSchemas(_ context.Context, _ flightsql.GetDBSchemas, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return info(desc, schema_ref.DBSchemas, desc.Cmd), nil
}

func (s *sqlServer) DoGetDBSchemas(ctx context.Context, cmd flightsql.GetDBSchemas) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	all, err := s.schemas(ctx, cmd.GetCatalog(), cmd.GetDBSchemaFilterPattern())
	if err != nil {
		return nil, nil, err
	}
	return rows(ctx, schema_ref.DBSchemas, func(add func(...any) error) error {
		for in, err := range all {
			if err == nil {
				err = add(theCatalog, in.name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func tablesSchema(cmd flightsql.GetTables) *arrow.Schema {
	if cmd.GetIncludeSchema() {
		return schema_ref.TablesWithIncludedSchema
	}
	return schema_ref.Tables
}

func (s *sqlServer) GetFlightInfoTables(_ context.Context, cmd flightsql.GetTables, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return info(desc, tablesSchema(cmd), desc.Cmd), nil
}

func (s *sqlServer) DoGetTables(ctx context.Context, cmd flightsql.GetTables) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	all, err := s.schemas(ctx, cmd.GetCatalog(), cmd.GetDBSchemaFilterPattern())
	if err != nil {
		return nil, nil, err
	}
	match, err := like(cmd.GetTableNameFilterPattern())
	if err != nil {
		return nil, nil, err
	}
	types := cmd.GetTableTypes()
	return rows(ctx, tablesSchema(cmd), func(add func(...any) error) error {
		if len(types) > 0 && !slices.Contains(types, tableType) {
			return nil
		}
		for in, err := range all {
			if err != nil {
				return err
			}
			for t, err := range s.store.Bucket(in.bucket).Tables(ctx, nil) {
				if err != nil {
					return err
				}
				if !match(t.Name) {
					continue
				}
				if err := s.addTable(ctx, in.name, t, cmd.GetIncludeSchema(), add); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (s *sqlServer) addTable(ctx context.Context, in string, t tables.TableInfo, withSchema bool, add func(...any) error) error {
	row := []any{theCatalog, in, t.Name, tableType}
	if !withSchema {
		return add(row...)
	}
	schema, err := schemaOf(ctx, s.store.Bucket(t.Bucket), t.Name)
	if err == nil {
		return add(append(row, flight.SerializeSchema(schema, memory.DefaultAllocator))...)
	}
	switch status.Code(sqlError(err)) {
	case codes.NotFound, codes.DataLoss: // deleted meanwhile, or without a schema that can be read
		return nil
	}
	return err
}

func (s *sqlServer) GetFlightInfoTableTypes(_ context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return info(desc, schema_ref.TableTypes, desc.Cmd), nil
}

func (s *sqlServer) DoGetTableTypes(ctx context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return rows(ctx, schema_ref.TableTypes, func(add func(...any) error) error { return add(tableType) })
}

// noKeys are the results of commands for keys, which tables do not have, and drivers ask
// for all the same.
var noKeys = map[string]*arrow.Schema{
	"PrimaryKeys": schema_ref.PrimaryKeys, "ExportedKeys": schema_ref.ExportedKeys,
	"ImportedKeys": schema_ref.ImportedKeys, "CrossReference": schema_ref.CrossReference,
}

// keysOf returns the columns that such a command asks for, nil for another one.
func keysOf(command []byte) *arrow.Schema {
	var a anypb.Any
	if proto.Unmarshal(command, &a) != nil {
		return nil
	}
	return noKeys[strings.TrimPrefix(a.TypeUrl, sqlCommands+"CommandGet")]
}
