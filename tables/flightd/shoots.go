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
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
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

// shootsError is an error in the form that clients of shoots (another table server) read.
type shootsError struct {
	kind string
	code codes.Code // for the metrics, because the clients get Unknown for each error
	err  error
}

func (e *shootsError) Error() string {
	return serving.Shorten(strings.TrimPrefix(e.err.Error(), "tables: "))
}
func (e *shootsError) Unwrap() error { return e.err }

// GRPCStatus returns the status under which the server's metrics count the error.
func (e *shootsError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }

// asShootsError returns err in the form that clients of shoots read. If err already has a status, for example because
// of missing rights, or if a disk is full, asShootsError returns an error with a status instead.
func asShootsError(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.Unknown || serving.IsDiskFull(err) {
		return serving.Status(err)
	}
	e := &shootsError{kindOther, status.Code(serving.Status(err)), err}
	var f *failure
	switch {
	case errors.As(err, &f):
		e.kind = f.kind
		if e.code == codes.Internal {
			e.code = codes.InvalidArgument
		}
	case errors.Is(err, tables.ErrNotFound):
		e.kind = kindMissing
	case errors.Is(err, tables.ErrExists):
		e.kind = kindExists
	case errors.Is(err, tables.ErrNotEmpty):
		e.kind = kindNotEmpty
	}
	return e
}

// publicError returns a call's error as its client receives it: without the server's paths. For a shootsError, it sets
// trailers that Arrow's clients convert to a FlightServerError with JSON as its extra_info.
func (s *Server) publicError(st grpc.ServerStream, err error) error {
	if err == nil {
		return nil
	}
	p := status.Convert(err).Proto()
	p.Message = s.WithoutPaths(p.GetMessage(), err)
	if e, ok := err.(*shootsError); ok { //nolint:errorlint // a shootsError is never wrapped
		p.Code = int32(codes.Unknown)
		if detail, err := json.Marshal(map[string]string{"type": e.kind, "message": p.Message}); err == nil {
			const ioError = "5" // Arrow's status code
			st.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(detail),
				"x-arrow-status", ioError, "x-arrow-status-message-bin", p.Message, "x-arrow-status-detail-bin", "Failed"))
		}
	}
	return status.FromProto(p).Err()
}

func isSQL(command []byte) bool {
	var a anypb.Any
	return proto.Unmarshal(command, &a) == nil && strings.HasPrefix(a.TypeUrl, sqlCommands)
}

const sqlCommands = "type.googleapis.com/arrow.flight.protocol.sql." // prefix of the names of Flight SQL's commands

// decode decodes a JSON command. Unknown fields are ignored, and null is the same as no field.
func decode(command []byte, target any) error {
	if err := operations.Unmarshal(command, target); err != nil {
		return &failure{kindOther, fmt.Errorf("the command is neither Flight SQL nor valid JSON for this call: %w", err)}
	}
	return nil
}

func parseMode(mode string, defaultMode tables.PutMode) (tables.PutMode, error) {
	if mode == "" {
		return defaultMode, nil
	}
	if m, ok := operations.PutModes[mode]; ok {
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
	return info, asShootsError(err)
}

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
	// Dictionaries affects the schema, so it must be the same as in get
	rows, err := table.Scan(ctx, &tables.ScanOptions{Dictionaries: true, Limit: 1})
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
	return asShootsError(s.listFlights(criteria, st))
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
