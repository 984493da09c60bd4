package flightd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/serving"
	"github.com/go-partd/partd/tables/internal/wire"
)

// The error types that clients of shoots (another table server) know.
const (
	kindMissing  = "FileNotFoundError"
	kindExists   = "FileExistsError"
	kindNotEmpty = "BucketNotEmptyError"
	kindSQL      = "DataFusionError"
	kindOther    = "ShootsIOError"
)

// failure is an error whose kind tells shoots' clients which exception to raise.
type failure struct {
	kind string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

type trailerSetter interface{ SetTrailer(metadata.MD) }

type shootsError struct {
	*status.Status
	serverFault bool // whether the server, rather than the client, is probably at fault
}

func (e *shootsError) Error() string              { return e.Message() }
func (e *shootsError) GRPCStatus() *status.Status { return e.Status }

// ServerFault tells serving.Core.RecordEnd whether to log the failed call as a fault of the server.
func (e *shootsError) ServerFault() bool { return e.serverFault }

// asShootsError returns err in the form that clients of shoots (another table server) read. It sets trailers that
// Arrow's clients convert to a FlightServerError with JSON as its extra_info. If err already has a status, for example
// because of missing rights, asShootsError keeps that status and sets no trailers.
func asShootsError(st trailerSetter, err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.Unknown {
		return serving.WithoutJargon(err)
	}
	var f *failure
	kind := kindOther
	switch {
	case errors.As(err, &f):
		kind = f.kind
	case errors.Is(err, tables.ErrNotFound):
		kind = kindMissing
	case errors.Is(err, tables.ErrExists):
		kind = kindExists
	case errors.Is(err, tables.ErrNotEmpty):
		kind = kindNotEmpty
	}
	message := serving.Shorten(strings.TrimPrefix(err.Error(), "tables: "))
	detail, jsonErr := json.Marshal(map[string]string{"type": kind, "message": message})
	if jsonErr == nil {
		const ioError = "5" // Arrow's status code
		st.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(detail),
			"x-arrow-status", ioError, "x-arrow-status-message-bin", message, "x-arrow-status-detail-bin", "Failed"))
	}
	fault := kind == kindOther && f == nil && !errors.As(err, new(*tables.SchemaError)) && !errors.As(err, new(*tables.DuplicateError)) && !errors.As(err, new(*tables.RuleError))
	return &shootsError{status.New(codes.Unknown, message), fault}
}

func isSQL(command []byte) bool {
	var a anypb.Any
	return proto.Unmarshal(command, &a) == nil && strings.HasPrefix(a.TypeUrl, sqlCommands)
}

const sqlCommands = "type.googleapis.com/arrow.flight.protocol.sql." // prefix of the names of Flight SQL's commands

// decode decodes a JSON command. Unknown fields are ignored, and null is the same as no field.
func decode(command []byte, target any) error {
	if err := wire.Unmarshal(command, target); err != nil {
		return &failure{kindOther, fmt.Errorf("the command is neither Flight SQL nor valid JSON for this call: %w", err)}
	}
	return nil
}

func parseMode(mode string, defaultMode tables.PutMode) (tables.PutMode, error) {
	if mode == "" {
		return defaultMode, nil
	}
	if m, ok := wire.PutModes[mode]; ok {
		return m, nil
	}
	return 0, &failure{kindOther, fmt.Errorf("put mode is %q: it must be error, append or replace", mode)}
}

type rowsCommand struct {
	Name   string  `json:"name"`
	Bucket string  `json:"bucket,omitempty"`
	SQL    *string `json:"sql,omitempty"`
}

func splitPath(path []string) (bucket, name string, err error) {
	switch len(path) {
	case 1:
		return "", path[0], nil
	case 2:
		return path[0], path[1], nil
	}
	return "", "", &failure{kindOther, fmt.Errorf("the path has %d parts: it must be [table] or [bucket, table]", len(path))}
}

// GetFlightInfo describes the rows that a command or a path would return.
func (s *Server) GetFlightInfo(ctx context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	serving.NoteRequest(ctx, "", d.GetCmd())
	var c rowsCommand
	var err error
	switch {
	case d.Type == flight.DescriptorPATH:
		c.Bucket, c.Name, err = splitPath(d.Path)
	case keySchema(d.Cmd) != nil:
		return info(d, keySchema(d.Cmd), d.Cmd), nil
	case isSQL(d.Cmd):
		return s.FlightServer.GetFlightInfo(ctx, d)
	default:
		err = decode(d.Cmd, &c)
	}
	var info *flight.FlightInfo
	if err == nil {
		info, err = s.info(ctx, d, c)
	}
	return info, asShootsError(unary{ctx}, err)
}

// unary is a trailerSetter for a call without a stream.
type unary struct{ ctx context.Context }

func (u unary) SetTrailer(md metadata.MD) { _ = grpc.SetTrailer(u.ctx, md) } // fails only outside of a call

func (s *Server) info(ctx context.Context, d *flight.FlightDescriptor, c rowsCommand) (*flight.FlightInfo, error) {
	table := s.store.Bucket(c.Bucket).Table(c.Name)
	if c.SQL != nil {
		if _, err := table.At(ctx); err != nil {
			return nil, err
		}
		release, err := serving.AcquireQuery(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
		q, err := s.store.Describe(ctx, *c.SQL, &tables.QueryOptions{Bucket: c.Bucket})
		if err != nil {
			return nil, statementError(err)
		}
		return newInfo(d, c, q.Result, -1, -1)
	}
	rows, err := table.Scan(ctx, &tables.ScanOptions{Dictionaries: true, Limit: 1}) // Dictionaries affects the schema, so it must be the same as in get
	if err != nil {
		return nil, err
	}
	schema := rows.Schema()
	rows.Release()
	i, err := table.Info(ctx)
	if err != nil {
		return nil, err
	}
	return newInfo(d, c, schema, i.Rows, i.Bytes)
}

func newInfo(d *flight.FlightDescriptor, c rowsCommand, schema *arrow.Schema, rows, bytes int64) (*flight.FlightInfo, error) {
	ticket, err := json.Marshal(c)
	i := info(d, schema, ticket)
	i.TotalRecords, i.TotalBytes = rows, bytes
	return i, err
}

// maxPattern limits the length of a pattern for names, in bytes, because a compiled pattern takes
// several hundred times as much memory.
const maxPattern = 4 << 10

func compilePattern(expression string) (*regexp.Regexp, error) {
	if len(expression) > maxPattern {
		return nil, fmt.Errorf("the pattern has %d bytes: the limit is %d", len(expression), maxPattern)
	}
	return regexp.Compile(expression)
}

// ListFlights lists the tables of a bucket.
func (s *Server) ListFlights(criteria *flight.Criteria, st flight.FlightService_ListFlightsServer) error {
	return asShootsError(st, s.listFlights(criteria, st))
}

func (s *Server) listFlights(criteria *flight.Criteria, st flight.FlightService_ListFlightsServer) error {
	var c struct{ Bucket, Regex string }
	if len(criteria.Expression) > 0 {
		if err := decode(criteria.Expression, &c); err != nil {
			return err
		}
	}
	pattern, err := compilePattern(c.Regex)
	if err != nil {
		return &failure{kindOther, fmt.Errorf("regex: %w", err)}
	}
	ctx := st.Context()
	bucket := s.store.Bucket(c.Bucket)
	if c.Bucket != "" {
		if ok, err := bucket.Exists(ctx); err != nil {
			return err
		} else if !ok {
			return &failure{kindMissing, fmt.Errorf("there is no bucket %s", c.Bucket)}
		}
	}
	for i, err := range bucket.Tables(ctx, nil) {
		if err != nil {
			return err
		}
		if !pattern.MatchString(i.Name) {
			continue
		}
		schema, err := schemaOf(ctx, bucket, i.Name)
		if isUnlisted(err) {
			continue
		}
		if err != nil {
			return err
		}
		d := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{i.Name}}
		info, err := newInfo(d, rowsCommand{Name: i.Name, Bucket: c.Bucket}, schema, i.Rows, i.Bytes)
		if err == nil {
			err = st.Send(info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isUnlisted reports whether lists omit a table because reading its schema failed with err: the table
// was just deleted, is damaged, or has a column of an unsupported type.
func isUnlisted(err error) bool {
	return errors.Is(err, tables.ErrNotFound) || errors.Is(err, tables.ErrDamaged) || errors.As(err, new(*tables.SchemaError))
}

func schemaOf(ctx context.Context, b *tables.Bucket, name string) (*arrow.Schema, error) {
	return b.Table(name).Schema(ctx)
}
