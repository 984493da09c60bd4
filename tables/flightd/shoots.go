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
	"github.com/go-partd/partd/tables/internal/wire"
)

// The types of errors that shoots' clients know.
const (
	kindMissing  = "FileNotFoundError"
	kindExists   = "FileExistsError"
	kindNotEmpty = "BucketNotEmptyError"
	kindSQL      = "DataFusionError"
	kindOther    = "ShootsIOError"
)

// failure is an error of one of those types.
type failure struct {
	kind string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// setTrailer is what a stream of the server has.
type setTrailer interface{ SetTrailer(metadata.MD) }

// toldError is a status that has been told as shoots' clients read it.
type toldError struct {
	*status.Status
	fault bool // of the server, as far as is known, not of the client
}

func (e *toldError) Error() string              { return e.Message() }
func (e *toldError) GRPCStatus() *status.Status { return e.Status }

// told returns an error as shoots' clients read it: with the trailers by which
// Arrow's own servers make a FlightServerError of it, and as its extra_info JSON,
// where others have a message of protobuf. What is a status already, as for lack
// of rights, stays as it is.
func told(st setTrailer, err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.Unknown {
		return plain(err)
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
	message := shortened(strings.TrimPrefix(err.Error(), "tables: "))
	detail, jsonErr := json.Marshal(map[string]string{"type": kind, "message": message})
	if jsonErr == nil {
		const ioError = "5"
		st.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(detail),
			"x-arrow-status", ioError, "x-arrow-status-message-bin", message, "x-arrow-status-detail-bin", "Failed"))
	}
	fault := kind == kindOther && f == nil && !errors.As(err, new(*tables.SchemaError)) && !errors.As(err, new(*tables.DuplicateError)) && !errors.As(err, new(*tables.RuleError))
	return &toldError{status.New(codes.Unknown, message), fault}
}

// jargon is what libraries say of themselves in the midst of an error.
var jargon = regexp.MustCompile(`rpc error: code = \w+ desc = |error encountered during (arrow )?schema visitor: `)

// plain is the status that an error wraps, with its text as people read it.
func plain(err error) error {
	if _, bare := err.(interface{ GRPCStatus() *status.Status }); bare { //nolint:errorlint // others are those that wrap one
		return err
	}
	return status.Error(status.Code(err), shortened(err.Error()))
}

// shortened is a text that fits into trailers, of which clients take 8 KiB in all.
// Errors may quote what a client sent, however long.
func shortened(text string) string {
	const most = 1 << 10
	text = jargon.ReplaceAllLiteralString(text, "")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// isSQL reports whether a command is Flight SQL's.
func isSQL(command []byte) bool {
	var a anypb.Any
	return proto.Unmarshal(command, &a) == nil && strings.HasPrefix(a.TypeUrl, sqlCommands)
}

const sqlCommands = "type.googleapis.com/arrow.flight.protocol.sql." // before the name of each

// decode reads a command of JSON. Fields that are unknown are ignored; null is
// as good as none.
func decode(command []byte, to any) error {
	if err := wire.Unmarshal(command, to); err != nil {
		return &failure{kindOther, fmt.Errorf("the command is neither Flight SQL nor the JSON that is wanted here: %w", err)}
	}
	return nil
}

// modeOf reads the mode of a put.
func modeOf(mode string, absent tables.PutMode) (tables.PutMode, error) {
	if mode == "" {
		return absent, nil
	}
	if m, ok := wire.PutModes[mode]; ok {
		return m, nil
	}
	return 0, &failure{kindOther, fmt.Errorf("put mode is %q, must be one of error, append and replace", mode)}
}

// rowsCommand asks for the rows of a table, or of a statement that may name it.
type rowsCommand struct {
	Name   string  `json:"name"`
	Bucket string  `json:"bucket,omitempty"`
	SQL    *string `json:"sql,omitempty"`
}

// pathOf is the bucket and the table of a path of one or two names.
func pathOf(path []string) (bucket, name string, err error) {
	switch len(path) {
	case 1:
		return "", path[0], nil
	case 2:
		return path[0], path[1], nil
	}
	return "", "", &failure{kindOther, fmt.Errorf("the path has %d parts: it is [table] or [bucket, table]", len(path))}
}

// GetFlightInfo describes the rows that a JSON command or a path would return.
func (s *Server) GetFlightInfo(ctx context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	var c rowsCommand
	var err error
	switch {
	case d.Type == flight.DescriptorPATH:
		c.Bucket, c.Name, err = pathOf(d.Path)
	case keysOf(d.Cmd) != nil:
		return info(d, keysOf(d.Cmd), d.Cmd), nil
	case isSQL(d.Cmd):
		return s.FlightServer.GetFlightInfo(ctx, d)
	default:
		err = decode(d.Cmd, &c)
	}
	var info *flight.FlightInfo
	if err == nil {
		info, err = s.info(ctx, d, c)
	}
	return info, told(unary{ctx}, err)
}

// unary is setTrailer for a call without a stream.
type unary struct{ ctx context.Context }

func (u unary) SetTrailer(md metadata.MD) { _ = grpc.SetTrailer(u.ctx, md) } // fails outside of a call only

func (s *Server) info(ctx context.Context, d *flight.FlightDescriptor, c rowsCommand) (*flight.FlightInfo, error) {
	table, err := s.store.Bucket(c.Bucket).Table(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	if c.SQL != nil {
		release, err := AcquireQuery(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
		q, err := s.store.Describe(ctx, *c.SQL, &tables.QueryOptions{Bucket: c.Bucket})
		if err != nil {
			return nil, sqlFailure(err)
		}
		return infoOf(d, c, q.Result, -1, -1)
	}
	rows, err := table.Scan(ctx, &tables.ScanOptions{Dictionaries: true, Limit: 1}) // as the ticket gets them
	if err != nil {
		return nil, err
	}
	schema := rows.Schema()
	rows.Release()
	i, err := table.Info(ctx)
	if err != nil {
		return nil, err
	}
	return infoOf(d, c, schema, i.Rows, i.Bytes)
}

func infoOf(d *flight.FlightDescriptor, c rowsCommand, schema *arrow.Schema, rows, bytes int64) (*flight.FlightInfo, error) {
	ticket, err := json.Marshal(c)
	i := info(d, schema, ticket)
	i.TotalRecords, i.TotalBytes = rows, bytes
	return i, err
}

// maxPattern bounds a pattern of names, in bytes: compiled, it takes hundreds of
// times as many.
const maxPattern = 4 << 10

func pattern(expression string) (*regexp.Regexp, error) {
	if len(expression) > maxPattern {
		return nil, fmt.Errorf("the pattern has %d bytes, the limit is %d", len(expression), maxPattern)
	}
	return regexp.Compile(expression)
}

// ListFlights lists the tables of a bucket.
func (s *Server) ListFlights(criteria *flight.Criteria, st flight.FlightService_ListFlightsServer) error {
	return told(st, s.listFlights(criteria, st))
}

func (s *Server) listFlights(criteria *flight.Criteria, st flight.FlightService_ListFlightsServer) error {
	var c struct{ Bucket, Regex string }
	if len(criteria.Expression) > 0 {
		if err := decode(criteria.Expression, &c); err != nil {
			return err
		}
	}
	wanted, err := pattern(c.Regex)
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
		if !wanted.MatchString(i.Name) {
			continue
		}
		schema, err := schemaOf(ctx, bucket, i.Name)
		if errors.Is(err, tables.ErrNotFound) || errors.Is(err, tables.ErrDamaged) { // deleted meanwhile, or not to be read
			continue
		}
		if err != nil {
			return err
		}
		d := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{i.Name}}
		info, err := infoOf(d, rowsCommand{Name: i.Name, Bucket: c.Bucket}, schema, i.Rows, i.Bytes)
		if err == nil {
			err = st.Send(info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func schemaOf(ctx context.Context, b *tables.Bucket, name string) (*arrow.Schema, error) {
	t, err := b.Table(ctx, name)
	if err != nil {
		return nil, err
	}
	return t.Schema(ctx)
}
