package page

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/transform"
)

type actionJSON struct {
	Action       string   `json:"action"`
	Bucket       string   `json:"bucket"`
	TargetBucket *string  `json:"target_bucket"`
	Table        string   `json:"table"`
	Tables       []string `json:"tables"`
	Name         string   `json:"name"`
	Source       string   `json:"source"`
	Sources      []string `json:"sources"`
	Target       string   `json:"target"`
	Mode         string   `json:"mode"`
	Where        string   `json:"where"`
	Time         string   `json:"time"`
	ID           string   `json:"id"`
	DryRun       bool     `json:"dry_run"`
	How          string   `json:"how"`
	On           []string `json:"on"`
	DropNulls    []string `json:"drop_nulls"`
	DropAnyNull  bool     `json:"drop_any_null"`
	KeepFirstOf  []string `json:"keep_first_of"`

	transform.ResampleOptions // Exec uses its field SQL; the fields above hide its fields Source, Target and Mode
	tables.MetadataChange
}

// action is an operation that the page can run, or show as a command line.
type action struct {
	*operations.Entry
	run     func(context.Context, *tables.Store, *actionJSON) (any, error)
	command func(*command, *actionJSON) // adds the operation's flags and names to the command line
}

// newAction returns the action for an operation. input converts the parameters to the operation's input, and output
// converts the operation's result for the page.
func newAction[In, Out any](o operations.Operation[In, Out], input func(*actionJSON) (*In, error), output func(Out) any, command func(*command, *actionJSON)) action {
	return action{o.Entry, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		in, err := input(a)
		if err != nil {
			return nil, err
		}
		result, err := o.Do(ctx, operations.Target{Store: s}, in)
		return output(result), err
	}, command}
}

var actions = []action{
	newAction(operations.Delete, func(a *actionJSON) (*operations.Names, error) {
		if len(a.Tables) == 0 {
			return nil, invalid("tables must name at least one table")
		}
		return &operations.Names{Bucket: a.Bucket, Names: a.Tables}, nil
	}, noOutput, func(c *command, a *actionJSON) { c.names(a.Tables...) }),
	newAction(operations.DeleteRows, func(a *actionJSON) (*operations.Deletion, error) {
		return &operations.Deletion{Bucket: a.Bucket, Name: a.Table, Where: a.Where}, nil
	}, func(r tables.RewriteResult) any {
		return map[string]int64{"version": int64(r.Version), "deleted": r.Deleted}
	}, func(c *command, a *actionJSON) { c.flag("where", a.Where).names(a.Table) }),
	newAction(operations.Exec, func(a *actionJSON) (*operations.Statement, error) {
		return &operations.Statement{Bucket: a.Bucket, SQL: a.SQL, ID: a.ID, DryRun: a.DryRun}, nil
	}, func(r tables.ExecResult) any { return r }, func(c *command, a *actionJSON) { c.flag("id", a.ID).names(a.SQL) }),
	newAction(operations.ChangeMetadata, func(a *actionJSON) (*operations.Metadata, error) {
		return &operations.Metadata{Bucket: a.Bucket, Name: a.Table, MetadataChange: a.MetadataChange}, nil
	}, noOutput, func(c *command, a *actionJSON) { c.metadata(a) }),
	newAction(operations.TakeSnapshot, snapshotInput, func(s operations.Snapshot) any {
		return map[string]string{"name": s.Name}
	}, func(c *command, a *actionJSON) { c.names(a.Name) }),
	newAction(operations.DeleteSnapshots, snapshotInput, noOutput, func(c *command, a *actionJSON) { c.names(a.Name) }),
	newAction(operations.Restore, snapshotInput, noOutput, func(c *command, a *actionJSON) {
		c.names(append([]string{a.Name}, a.Tables...)...)
	}),
	newAction(operations.Resample, (*actionJSON).resampling, rowCounts, func(c *command, a *actionJSON) {
		c.targetFlags(a).flag("rule", a.Rule).flag("time", a.Time).list("func", a.Functions).list("columns", a.Columns).list("by", a.By).flag("sql", a.SQL)
		if a.By != nil && len(a.By) == 0 {
			c.add("--by", "")
		}
		c.names(a.Source, a.Target)
	}),
	newAction(operations.Combine, func(a *actionJSON) (*transform.CombineOptions, error) {
		o := &transform.CombineOptions{Target: a.target(), How: cmp.Or(a.How, "union"), On: a.On, Mode: operations.PutModes[a.Mode]}
		for _, name := range a.Sources {
			o.Sources = append(o.Sources, a.source(name))
		}
		if len(o.Sources) < 2 {
			return nil, invalid("sources must name at least two tables")
		}
		return o, nil
	}, rowCounts, func(c *command, a *actionJSON) {
		c.targetFlags(a).flag("how", a.How).list("on", a.On)
		c.names(append(slices.Clone(a.Sources), a.Target)...)
	}),
	newAction(operations.Clean, func(a *actionJSON) (*transform.CleanOptions, error) {
		o := &transform.CleanOptions{
			Source: a.source(a.Source), Where: a.Where, DropNulls: a.DropNulls, DropAnyNull: a.DropAnyNull, KeepFirstOf: a.KeepFirstOf, Mode: operations.PutModes[a.Mode],
		}
		if a.Target != "" {
			to := a.target()
			o.Target = &to
		}
		return o, nil
	}, rowCounts, func(c *command, a *actionJSON) {
		if a.Target != "" {
			c.targetFlags(a)
		}
		c.flag("where", a.Where).list("drop-nulls", a.DropNulls).list("keep-first-of", a.KeepFirstOf)
		if a.DropAnyNull {
			c.add("--drop-any-null")
		}
		c.names(a.Source, a.Target)
	}),
}

func noOutput(none operations.None) any { return none }

func rowCounts(r transform.Result) any {
	return map[string]int64{"source_rows": r.SourceRows, "target_rows": r.TargetRows}
}

func snapshotInput(a *actionJSON) (*operations.Snapshot, error) {
	return &operations.Snapshot{Bucket: a.Bucket, Name: a.Name, Tables: a.Tables}, nil
}

func (a *actionJSON) resampling() (*transform.ResampleOptions, error) {
	o := a.ResampleOptions
	o.Source, o.Target, o.TimeColumn, o.Mode = a.source(a.Source), a.target(), a.Time, operations.PutModes[a.Mode]
	return &o, nil
}

func (a *actionJSON) source(name string) transform.TableName {
	return transform.TableName{Bucket: a.Bucket, Name: name}
}

func (a *actionJSON) target() transform.TableName {
	to := a.source(a.Target)
	if a.TargetBucket != nil {
		to.Bucket = *a.TargetBucket
	}
	return to
}

func (h *handler) action(q *request) error {
	a := &actionJSON{}
	if err := q.parse(a); err != nil {
		return err
	}
	serving.NoteRequest(q.Ctx, a.Action, nil)
	i := slices.IndexFunc(actions, func(act action) bool { return act.Entry == operations.ByName(a.Action) })
	if i < 0 {
		return invalid("unknown action %.40q", a.Action)
	}
	act := actions[i]
	dry, right := q.isDryRun()
	a.Mode = cmp.Or(a.Mode, map[bool]string{true: "append", false: "error"}[act.Entry == operations.Resample.Entry])
	_, modeErr := parseMode(a.Mode)
	err := cmp.Or(modeErr, q.Caller.CheckAccess(right, a.Bucket, a.target().Bucket),
		checkNames(slices.Concat(a.Tables, a.Sources, []string{a.Bucket, a.Table, a.Name, a.Source, a.Target, a.target().Bucket})...))
	if err != nil {
		return err
	}
	c := &command{h: h}
	act.command(c.add(strings.Fields(act.Command)...).locationFlags(a), a)
	if dry {
		return q.replyCommand(c)
	}
	release, err := serving.Acquire(q.Ctx, act.Slots)
	if err != nil {
		return err
	}
	defer release()
	result, err := act.run(q.Ctx, h.store, a)
	if err != nil {
		return asClientError(err)
	}
	text, _ := c.String() // "" if the shell cannot express the command
	return q.reply(map[string]any{"result": result, "command": text})
}

// isDryRun reports whether the client requests only the command line. It also returns the right that the request needs.
func (q *request) isDryRun() (bool, serving.Rights) {
	if q.URL.Query().Get("dry") != "" {
		return true, serving.Read
	}
	return false, serving.Admin
}

func (q *request) replyCommand(c *command) error {
	text, err := c.String()
	if err != nil {
		return err
	}
	return q.reply(map[string]string{"command": text})
}

type command struct {
	h    *handler
	args []string
	err  error // why the command line cannot be built, or nil
}

func (c *command) add(args ...string) *command {
	c.args = append(c.args, args...)
	return c
}

func (c *command) flag(name, value string) *command {
	if value == "" {
		return c
	}
	return c.add("--"+name, value)
}

// list adds a flag with comma-separated values, unless there are none.
func (c *command) list(name string, values []string) *command {
	if len(values) == 0 {
		return c
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	err := w.Write(values)
	w.Flush()
	line := strings.TrimSuffix(text.String(), "\n")
	if parsed, parseErr := csv.NewReader(strings.NewReader(line)).Read(); err != nil || parseErr != nil || !slices.Equal(parsed, values) {
		c.err = errors.Join(c.err, invalid("the command line cannot express %s: %q", name, values))
	}
	return c.add("--"+name, line)
}

func (c *command) locationFlags(a *actionJSON) *command {
	c.flag("server", c.h.url)
	if c.h.opts.Secret != nil {
		c.flag("token-file", "token")
	}
	return c.flag("bucket", a.Bucket)
}

func (c *command) targetFlags(a *actionJSON) *command {
	c.flag("mode", a.Mode)
	if a.TargetBucket != nil && *a.TargetBucket != a.Bucket {
		c.add("--target-bucket", *a.TargetBucket)
	}
	return c
}

func (c *command) metadata(a *actionJSON) {
	if a.Table == "" {
		c.add("--of-bucket")
	}
	if a.Replace {
		c.add("--replace")
	}
	for _, key := range a.Remove {
		c.flag("remove", key)
	}
	names := []string{a.Table}
	for _, key := range slices.Sorted(maps.Keys(a.Set)) {
		value, err := json.Marshal(a.Set[key])
		c.err = errors.Join(c.err, err)
		if strings.Contains(key, "=") {
			c.err = errors.Join(c.err, invalid("the command line cannot set key %q: it contains =", key))
		}
		names = append(names, key+"="+string(value))
	}
	c.names(names...)
}

func (c *command) names(names ...string) {
	c.add("--").add(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })...)
}

// String returns the command line, quoted for a POSIX shell.
func (c *command) String() (string, error) {
	words := []string{"partd-tables"}
	for _, arg := range c.args {
		if strings.ContainsRune(arg, 0) {
			return "", invalid("the command line cannot contain a zero byte")
		}
		words = append(words, textfmt.POSIXQuote(arg))
	}
	return strings.Join(words, " "), c.err
}
