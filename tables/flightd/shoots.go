package flightd

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// decode decodes a JSON command of a client of shoots. It ignores unknown fields, and treats null like a missing field.
func decode(command []byte, target any) error {
	if err := operations.Unmarshal(command, target); err != nil {
		return newShootsError(kinds.BadRequest, fmt.Errorf("the command is neither Flight SQL nor valid JSON for this call: %w", err))
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
	return 0, newShootsError(kinds.BadRequest, fmt.Errorf("put mode is %q: it must be error, append or replace", mode))
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
	return "", "", newShootsError(kinds.BadRequest, fmt.Errorf("the path has %d parts: it must be [table] or [bucket, table]", len(path)))
}

// GetFlightInfo describes the rows that a command or a path would return.
func (s *Server) GetFlightInfo(ctx context.Context, d *flight.FlightDescriptor) (info *flight.FlightInfo, err error) {
	serving.NoteRequest(ctx, "", d.GetCmd())
	var c rowsCommand
	switch {
	case d.Type == flight.DescriptorPATH:
		c.Bucket, c.Name, err = splitPath(d.Path)
	case keySchema(d.Cmd) != nil:
		return newInfo(d, keySchema(d.Cmd), d.Cmd), nil
	case isSQL(d.Cmd):
		return s.FlightServer.GetFlightInfo(ctx, d)
	default:
		err = decode(d.Cmd, &c)
	}
	if err == nil {
		info, err = s.describeRows(ctx, d, c)
	}
	return info, asShootsError(err)
}

func (s *Server) describeRows(ctx context.Context, d *flight.FlightDescriptor, c rowsCommand) (*flight.FlightInfo, error) {
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
		return newRowsInfo(d, c, q.Result, -1, -1)
	}
	// the option Dictionaries affects the schema, so it must be the same as in get
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
	return newRowsInfo(d, c, schema, exactRows(i), i.Bytes)
}

// exactRows returns a table's number of rows, or -1 if it is unknown.
func exactRows(i tables.TableInfo) int64 {
	if i.AtMost {
		return -1
	}
	return i.Rows
}

func newRowsInfo(d *flight.FlightDescriptor, c rowsCommand, schema *arrow.Schema, numRows, numBytes int64) (*flight.FlightInfo, error) {
	ticket, err := json.Marshal(c)
	info := newInfo(d, schema, ticket)
	info.TotalRecords, info.TotalBytes = numRows, numBytes
	return info, err
}

// ListFlights lists the tables of a bucket.
func (s *Server) ListFlights(criteria *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	return asShootsError(s.listFlights(criteria, stream))
}

func (s *Server) listFlights(criteria *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	var c struct{ Bucket, Regex string }
	if len(criteria.Expression) > 0 {
		if err := decode(criteria.Expression, &c); err != nil {
			return err
		}
	}
	pattern, err := compilePattern(c.Regex)
	if err != nil {
		return newShootsError(kinds.BadRequest, fmt.Errorf("regex: %w", err))
	}
	ctx := stream.Context()
	bucket := s.store.Bucket(c.Bucket)
	if c.Bucket != "" {
		if ok, err := bucket.Exists(ctx); err != nil {
			return err
		} else if !ok {
			return newShootsError(kinds.NotFound, fmt.Errorf("there is no bucket %s", c.Bucket))
		}
	}
	for i, err := range bucket.Tables(ctx, nil) {
		if err != nil {
			return err
		}
		if !pattern.MatchString(i.Name) {
			continue
		}
		schema, err := bucket.Table(i.Name).Schema(ctx)
		if isUnlisted(err) {
			continue
		}
		if err != nil {
			return err
		}
		d := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{i.Name}}
		info, err := newRowsInfo(d, rowsCommand{Name: i.Name, Bucket: c.Bucket}, schema, exactRows(i), i.Bytes)
		if err == nil {
			err = stream.Send(info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
