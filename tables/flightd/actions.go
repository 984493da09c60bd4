package flightd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/transform"
)

// action is a Flight action for clients of shoots (another table server), or the action partd.cancel.
type action struct {
	description string
	forReaders  bool // a caller without the right to write may run it; shutdown checks the caller's rights itself

	run func(s *Server, ctx context.Context, body []byte) (any, error) // nil for ping
}

var actions = map[string]action{
	"ping":          {"Convenience action for testing if the server is functional", true, nil},
	"buckets":       {"List buckets", true, (*Server).listBuckets},
	"delete":        {"Delete a table: name, bucket", false, withJSON((*Server).deleteTable)},
	"delete_bucket": {"Delete a bucket: name, mode (error or delete)", false, withJSON((*Server).deleteBucket)},
	"resample":      {"Store aggregates by time, or the result of SQL, in a table", false, withJSON((*Server).resample)},
	"combine":       {"Store the rows of several tables in one: sources, target, how (union or join), on, mode", false, withJSON((*Server).combine)},
	"clean":         {"Copy a table without some of its rows: source, target, drop_nulls, keep_first_of, where, mode", false, withJSON((*Server).clean)},
	"shutdown":      {"Shut down the server", true, (*Server).shutdown},
	"partd.cancel":  {"Cancel calls by the id in their header partd-call: id", true, withJSON((*Server).cancelCall)},
}

// withJSON returns a function that decodes an action's JSON body and passes it to run.
func withJSON[In any](run func(*Server, context.Context, *In) (any, error)) func(*Server, context.Context, []byte) (any, error) {
	return func(s *Server, ctx context.Context, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return run(s, ctx, in)
	}
}

// ListActions lists the actions in the variable actions and those of Flight SQL.
func (s *Server) ListActions(e *flight.Empty, st flight.FlightService_ListActionsServer) error {
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		if err := st.Send(&flight.ActionType{Type: name, Description: actions[name].description}); err != nil {
			return err
		}
	}
	return s.FlightServer.ListActions(e, st)
}

// DoAction runs an action. The replies are JSON, except for ping and Flight SQL's actions.
func (s *Server) DoAction(in *flight.Action, st flight.FlightService_DoActionServer) error {
	serving.NoteRequest(st.Context(), in.Type, in.Body)
	if o := operations.ByAction(in.Type); o != nil {
		return s.runAction(o, in.Body, st)
	}
	a, ok := actions[in.Type]
	switch {
	case !ok && strings.HasPrefix(in.Type, "partd."):
		return kinds.Unsupported.Errorf("this server does not know the action %.40q: upgrade the server", in.Type)
	case !ok:
		return s.FlightServer.DoAction(in, st)
	case in.Type == "ping":
		return st.Send(&flight.Result{Body: []byte("pong")})
	}
	if !a.forReaders {
		if err := serving.RequireWrite(st.Context()); err != nil {
			return err
		}
	}
	reply, err := a.run(s, st.Context(), in.Body)
	if err != nil {
		return asShootsError(err)
	}
	return sendResult(st, reply)
}

// sendResult sends v as JSON.
func sendResult(st flight.FlightService_DoActionServer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return st.Send(&flight.Result{Body: body})
}

// runOperation runs an operation once the limits on concurrent queries and puts allow it.
func runOperation[In, Out any](ctx context.Context, s *Server, o operations.Operation[In, Out], input *In) (out Out, err error) {
	release, err := serving.Acquire(ctx, o.Slots)
	if err != nil {
		return out, err
	}
	defer release()
	return o.Do(ctx, operations.Target{Store: s.store}, input)
}

// runTransform runs an operation that creates a table from other tables. It first checks that source exists, so that a
// call with a wrong table name fails without waiting for its turn.
func runTransform[In any](ctx context.Context, s *Server, source transform.TableName, o operations.Operation[In, transform.Result], input *In) (reply, error) {
	if _, err := s.store.Bucket(source.Bucket).Table(source.Name).At(ctx); err != nil {
		return nil, err
	}
	r, err := runOperation(ctx, s, o, input)
	return reply{"source_rows": r.SourceRows, "target_rows": r.TargetRows}, err
}

func (s *Server) listBuckets(ctx context.Context, _ []byte) (any, error) {
	names := []string{}
	for name, err := range s.store.Buckets(ctx) {
		if err != nil {
			return nil, err
		}
		if name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

type reply map[string]any

func (s *Server) deleteTable(ctx context.Context, c *struct{ Name, Bucket string }) (any, error) {
	if _, err := runOperation(ctx, s, operations.Delete, &operations.Names{Bucket: c.Bucket, Names: []string{c.Name}}); err != nil {
		return nil, err
	}
	return reply{"success": true, "message": "deleted " + c.Name}, nil
}

func (s *Server) deleteBucket(ctx context.Context, c *struct{ Name, Mode string }) (any, error) {
	if c.Mode != "" && c.Mode != "error" && c.Mode != "delete" {
		return nil, newShootsError(kinds.BadRequest, fmt.Errorf("mode is %q: it must be error or delete", c.Mode))
	}
	if c.Name == "" {
		return nil, newShootsError(kinds.BadRequest, errors.New("the default bucket cannot be deleted: name a bucket"))
	}
	if err := s.store.DeleteBucket(ctx, c.Name, c.Mode == "delete"); err != nil {
		return nil, err
	}
	return reply{"message": "bucket " + c.Name + " deleted"}, nil
}

func (s *Server) shutdown(ctx context.Context, _ []byte) (any, error) {
	if err := s.access.requireShutdown(ctx); err != nil {
		return nil, err
	}
	s.stop()
	return []string{"shutdown command received"}, nil
}

func (s *Server) cancelCall(_ context.Context, c *struct{ ID string }) (any, error) {
	if len(c.ID) < minIDLength {
		return nil, newShootsError(kinds.BadRequest, fmt.Errorf("id has %d bytes, but the id of a call has at least %d: use the id in the call's header %s", len(c.ID), minIDLength, callHeader))
	}
	return reply{"cancelled": s.Cancel(c.ID)}, nil
}

type resampleInput struct {
	transform.ResampleOptions
	Mode         string
	TimeColumn   string `json:"time_col"`
	Functions    string `json:"aggregation_func"`
	SourceBucket string `json:"source_bucket"`
	TargetBucket string `json:"target_bucket"`
}

func (c *resampleInput) options() (_ *transform.ResampleOptions, err error) {
	o := &c.ResampleOptions
	o.Source.Bucket, o.Target.Bucket = cmp.Or(c.SourceBucket, o.Source.Bucket), cmp.Or(c.TargetBucket, o.Target.Bucket)
	o.Mode, err = parseMode(c.Mode, tables.PutAppend)
	if c.SQL != "" { // the other fields do not apply to an SQL statement
		return &transform.ResampleOptions{Source: o.Source, Target: o.Target, SQL: c.SQL, Mode: o.Mode}, err
	}
	o.TimeColumn, o.TimeIndex = c.TimeColumn, true
	o.Functions = slices.DeleteFunc(strings.Split(c.Functions, ","), func(s string) bool { return strings.TrimSpace(s) == "" })
	return o, err
}

func (s *Server) resample(ctx context.Context, c *resampleInput) (any, error) {
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	result, err := runTransform(ctx, s, o.Source, operations.Resample, o)
	if c.SQL != "" {
		delete(result, "source_rows")
		if err != nil {
			err = statementOrPutError(err)
		}
	}
	return result, err
}

// statementOrPutError marks err as a fault of the SQL statement, unless err comes from writing the result.
func statementOrPutError(err error) error {
	if errors.Is(err, tables.ErrExists) || errors.Is(err, tables.ErrNotFound) || errors.As(err, new(*tables.SchemaError)) || errors.As(err, new(*tables.RuleError)) {
		return err
	}
	return statementError(err)
}

type combineInput struct {
	transform.CombineOptions
	Mode string
}

func (s *Server) combine(ctx context.Context, c *combineInput) (_ any, err error) {
	o := &c.CombineOptions
	o.Mode, err = parseMode(c.Mode, tables.PutError)
	if err != nil {
		return nil, err
	}
	if len(o.Sources) == 0 {
		return nil, newShootsError(kinds.BadRequest, errors.New("sources must name at least one table"))
	}
	return runTransform(ctx, s, o.Sources[0], operations.Combine, o)
}

type cleanInput struct {
	transform.CleanOptions
	Mode        string
	DropNulls   json.RawMessage `json:"drop_nulls"` // true for all columns, or a list of column names
	KeepFirstOf []string        `json:"keep_first_of"`
}

func (s *Server) clean(ctx context.Context, c *cleanInput) (_ any, err error) {
	o := &c.CleanOptions
	o.Mode, err = parseMode(c.Mode, tables.PutError)
	if err != nil {
		return nil, err
	}
	o.KeepFirstOf = c.KeepFirstOf
	if len(c.DropNulls) > 0 && json.Unmarshal(c.DropNulls, &o.DropAnyNull) != nil {
		if err := decode(c.DropNulls, &o.DropNulls); err != nil {
			return nil, err
		}
	}
	return runTransform(ctx, s, o.Source, operations.Clean, o)
}
