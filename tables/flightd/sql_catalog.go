package flightd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// There is one catalog, catalogName; its schemas are the buckets.
const (
	catalogName = "partd"
	tableType   = "TABLE"

	// defaultSchema is the schema for the default bucket, whose name is empty: SQL and tools do not accept an empty
	// schema name. If there is a bucket called default, defaultSchema is the schema for that bucket instead.
	defaultSchema = "default"
)

func (s *sqlServer) bucketOf(ctx context.Context, schema string) (string, error) {
	if schema != defaultSchema {
		return schema, nil
	}
	exists, err := s.store.Bucket(schema).Exists(ctx)
	if exists {
		return schema, err
	}
	return "", err
}

// likeMatcher returns a function that reports whether a name matches a LIKE pattern with the escape character \. A nil
// pattern matches every name.
func likeMatcher(pattern *string) (func(string) bool, error) {
	if pattern == nil {
		return func(string) bool { return true }, nil
	}
	var re strings.Builder
	escaped := false
	for _, c := range *pattern {
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
	compiled, err := compilePattern("(?s)^" + re.String() + "$")
	if err != nil {
		return nil, kinds.BadRequest.Errorf("invalid pattern %.64q: %v", *pattern, err)
	}
	return compiled.MatchString, nil
}

type dbSchema struct{ name, bucket string }

func (s *sqlServer) schemas(ctx context.Context, catalog, pattern *string) (iter.Seq2[dbSchema, error], error) {
	match, err := likeMatcher(pattern)
	if err != nil {
		return nil, err
	}
	return func(yield func(dbSchema, error) bool) {
		if catalog != nil && *catalog != catalogName {
			return
		}
		defaultBucket, err := s.bucketOf(ctx, defaultSchema)
		if err != nil {
			yield(dbSchema{}, err)
			return
		}
		for bucket, err := range s.store.Buckets(ctx) {
			name := bucket
			if bucket == defaultBucket {
				name = defaultSchema
			}
			if (err != nil || match(name) || match(bucket)) && !yield(dbSchema{name, bucket}, err) {
				return
			}
		}
	}, nil
}

func (s *sqlServer) GetFlightInfoCatalogs(_ context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return newInfo(desc, schema_ref.Catalogs, desc.Cmd), nil
}

func (s *sqlServer) DoGetCatalogs(ctx context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return streamRows(ctx, schema_ref.Catalogs, func(add func(...any) error) error { return add(catalogName) })
}

func (s *sqlServer) GetFlightInfoSchemas(_ context.Context, _ flightsql.GetDBSchemas, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return newInfo(desc, schema_ref.DBSchemas, desc.Cmd), nil
}

func (s *sqlServer) DoGetDBSchemas(ctx context.Context, cmd flightsql.GetDBSchemas) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	schemas, err := s.schemas(ctx, cmd.GetCatalog(), cmd.GetDBSchemaFilterPattern())
	if err != nil {
		return nil, nil, err
	}
	return streamRows(ctx, schema_ref.DBSchemas, func(add func(...any) error) error {
		for sc, err := range schemas {
			if err == nil {
				err = add(catalogName, sc.name)
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
	return newInfo(desc, tablesSchema(cmd), desc.Cmd), nil
}

func (s *sqlServer) DoGetTables(ctx context.Context, cmd flightsql.GetTables) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	schemas, err := s.schemas(ctx, cmd.GetCatalog(), cmd.GetDBSchemaFilterPattern())
	if err != nil {
		return nil, nil, err
	}
	match, err := likeMatcher(cmd.GetTableNameFilterPattern())
	if err != nil {
		return nil, nil, err
	}
	types := cmd.GetTableTypes()
	return streamRows(ctx, tablesSchema(cmd), func(add func(...any) error) error {
		if len(types) > 0 && !slices.Contains(types, tableType) {
			return nil
		}
		for sc, err := range schemas {
			if err != nil {
				return err
			}
			for t, err := range s.store.Bucket(sc.bucket).Tables(ctx, nil) {
				if err != nil {
					return err
				}
				if !match(t.Name) {
					continue
				}
				if err := s.addTable(ctx, sc.name, t, cmd.GetIncludeSchema(), add); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (s *sqlServer) addTable(ctx context.Context, schemaName string, t tables.TableInfo, withSchema bool, add func(...any) error) error {
	row := []any{catalogName, schemaName, t.Name, tableType}
	if !withSchema {
		return add(row...)
	}
	columns, err := s.store.Bucket(t.Bucket).Table(t.Name).Schema(ctx)
	if err == nil {
		// Replace the types string view and binary view, which do not occur in SQL results: Apache's JDBC driver does not
		// support them, and a single such column would make the driver fail to list any table.
		columns = schema.Without(columns, arrow.STRING_VIEW, arrow.BINARY_VIEW)
		return add(append(row, flight.SerializeSchema(columns, memory.DefaultAllocator))...)
	}
	if isUnlisted(err) {
		return nil
	}
	return err
}

func (s *sqlServer) GetFlightInfoTableTypes(_ context.Context, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return newInfo(desc, schema_ref.TableTypes, desc.Cmd), nil
}

func (s *sqlServer) DoGetTableTypes(ctx context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return streamRows(ctx, schema_ref.TableTypes, func(add func(...any) error) error { return add(tableType) })
}

// keySchemas contains the result schemas of commands that list primary or foreign keys. Drivers send these commands,
// although tables have no keys; the results are empty.
var keySchemas = map[string]*arrow.Schema{
	"PrimaryKeys": schema_ref.PrimaryKeys, "ExportedKeys": schema_ref.ExportedKeys,
	"ImportedKeys": schema_ref.ImportedKeys, "CrossReference": schema_ref.CrossReference,
}

// keySchema returns the result schema of a command that lists keys, or nil for other commands.
func keySchema(command []byte) *arrow.Schema {
	var a anypb.Any
	if proto.Unmarshal(command, &a) != nil {
		return nil
	}
	return keySchemas[strings.TrimPrefix(a.TypeUrl, sqlCommands+"CommandGet")]
}

// maxPattern limits the bytes of a pattern for names, because a compiled pattern takes several hundred times as many.
const maxPattern = 4 << 10

func compilePattern(expression string) (*regexp.Regexp, error) {
	if len(expression) > maxPattern {
		return nil, fmt.Errorf("the pattern has %d bytes: the limit is %d", len(expression), maxPattern)
	}
	return regexp.Compile(expression)
}

// isUnlisted reports whether table lists omit a table whose schema cannot be read because of err: the table has just
// been deleted, is damaged, or has a column of an unsupported type.
func isUnlisted(err error) bool {
	return errors.Is(err, tables.ErrNotFound) || errors.Is(err, tables.ErrDamaged) || errors.As(err, new(*tables.SchemaError))
}
