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

	"github.com/go-partd/partd/internal/textfmt"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/operations"
	"github.com/go-partd/partd/tables/internal/wire"
	"github.com/go-partd/partd/tables/transform"
)

// actionJSON is what any action takes.
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
	Rule         string   `json:"rule"`
	Time         string   `json:"time"`
	Functions    []string `json:"functions"`
	Columns      []string `json:"columns"`
	SQL          string   `json:"sql"`
	How          string   `json:"how"`
	On           []string `json:"on"`
	DropNulls    []string `json:"drop_nulls"`
	DropAnyNull  bool     `json:"drop_any_null"`
	KeepFirstOf  []string `json:"keep_first_of"`

	tables.MetadataChange
}

// action is an operation as the page asks for it, and as a command line does.
type action struct {
	*operations.Entry
	do      func(context.Context, *tables.Store, *actionJSON) (any, error)
	command func(*command, *actionJSON) // adds flags and names to what all have
}

// acts makes an action of an operation: in makes its input, out what the page is answered.
func acts[In, Out any](o operations.Operation[In, Out], in func(*actionJSON) (*In, error), out func(Out) any, command func(*command, *actionJSON)) action {
	return action{o.Entry, func(ctx context.Context, s *tables.Store, a *actionJSON) (any, error) {
		input, err := in(a)
		if err != nil {
			return nil, err
		}
		done, err := o.Do(ctx, operations.Target{Store: s}, input)
		return out(done), err
	}, command}
}

var actions = []action{
	acts(operations.Delete, func(a *actionJSON) (*operations.Names, error) {
		if len(a.Tables) == 0 {
			return nil, invalid("tables is required")
		}
		return &operations.Names{Bucket: a.Bucket, Names: a.Tables}, nil
	}, nothing, func(c *command, a *actionJSON) { c.names(a.Tables...) }),
	acts(operations.DeleteRows, func(a *actionJSON) (*operations.Deletion, error) {
		return &operations.Deletion{Bucket: a.Bucket, Name: a.Table, Where: a.Where}, nil
	}, func(done tables.Rewritten) any {
		return map[string]int64{"version": int64(done.Version), "deleted": done.Deleted}
	}, func(c *command, a *actionJSON) { c.flag("where", a.Where).names(a.Table) }),
	acts(operations.ChangeMetadata, func(a *actionJSON) (*operations.Metadata, error) {
		return &operations.Metadata{Bucket: a.Bucket, Name: a.Table, MetadataChange: a.MetadataChange}, nil
	}, nothing, func(c *command, a *actionJSON) { c.metadata(a) }),
	acts(operations.TakeSnapshot, snapshot, func(made operations.Snapshot) any {
		return map[string]string{"name": made.Name}
	}, func(c *command, a *actionJSON) { c.names(a.Name) }),
	acts(operations.DeleteSnapshots, snapshot, nothing, func(c *command, a *actionJSON) { c.names(a.Name) }),
	acts(operations.Restore, snapshot, nothing, func(c *command, a *actionJSON) {
		c.names(append([]string{a.Name}, a.Tables...)...)
	}),
	acts(operations.Resample, func(a *actionJSON) (*transform.ResampleOptions, error) {
		return &transform.ResampleOptions{
			Source: a.source(a.Source), Target: a.target(), SQL: a.SQL, Rule: a.Rule, TimeColumn: a.Time, Functions: a.Functions, Columns: a.Columns,
			Mode: wire.PutModes[a.Mode],
		}, nil
	}, transformed, func(c *command, a *actionJSON) {
		c.to(a).flag("rule", a.Rule).flag("time", a.Time).list("func", a.Functions).list("columns", a.Columns).flag("sql", a.SQL)
		c.names(a.Source, a.Target)
	}),
	acts(operations.Combine, func(a *actionJSON) (*transform.CombineOptions, error) {
		o := &transform.CombineOptions{Target: a.target(), How: cmp.Or(a.How, "union"), On: a.On, Mode: wire.PutModes[a.Mode]}
		for _, name := range a.Sources {
			o.Sources = append(o.Sources, a.source(name))
		}
		if len(o.Sources) < 2 {
			return nil, invalid("sources needs two tables or more")
		}
		return o, nil
	}, transformed, func(c *command, a *actionJSON) {
		c.to(a).flag("how", a.How).list("on", a.On)
		c.names(append(slices.Clone(a.Sources), a.Target)...)
	}),
	acts(operations.Clean, func(a *actionJSON) (*transform.CleanOptions, error) {
		o := &transform.CleanOptions{
			Source: a.source(a.Source), Where: a.Where, DropNulls: a.DropNulls, DropAnyNull: a.DropAnyNull, KeepFirstOf: a.KeepFirstOf, Mode: wire.PutModes[a.Mode],
		}
		if a.Target != "" {
			to := a.target()
			o.Target = &to
		}
		return o, nil
	}, transformed, func(c *command, a *actionJSON) {
		if a.Target != "" {
			c.to(a)
		}
		c.flag("where", a.Where).list("drop-nulls", a.DropNulls).list("keep-first-of", a.KeepFirstOf)
		if a.DropAnyNull {
			c.add("--drop-any-null")
		}
		c.names(a.Source, a.Target)
	}),
}

func nothing(done operations.None) any { return done }

func transformed(r transform.Result) any {
	return map[string]int64{"source_rows": r.SourceRows, "target_rows": r.TargetRows}
}

func snapshot(a *actionJSON) (*operations.Snapshot, error) {
	return &operations.Snapshot{Bucket: a.Bucket, Name: a.Name, Tables: a.Tables}, nil
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
	i := slices.IndexFunc(actions, func(the action) bool { return the.Entry == operations.Named(a.Action) })
	if i < 0 {
		return invalid("there is no action %.40q", a.Action)
	}
	the := actions[i]
	dry, right := q.dry()
	a.Mode = cmp.Or(a.Mode, map[bool]string{true: "append", false: "error"}[the.Entry == operations.Resample.Entry])
	_, wrong := modeOf(a.Mode)
	err := errors.Join(wrong, q.Caller.MayUse(right, a.Bucket, a.target().Bucket),
		checkNames(slices.Concat(a.Tables, a.Sources, []string{a.Bucket, a.Table, a.Name, a.Source, a.Target, a.target().Bucket})...))
	if err != nil {
		return err
	}
	c := &command{h: h}
	the.command(c.add(strings.Fields(the.Command)...).place(a), a)
	if dry {
		return q.command(c)
	}
	release, err := flightd.Acquire(q.Ctx, the.Slots)
	if err != nil {
		return err
	}
	defer release()
	result, err := the.do(q.Ctx, h.store, a)
	if err != nil {
		return ofClient(err)
	}
	text, _ := c.String() // "" where no command line can say it
	return q.reply(map[string]any{"result": result, "command": text})
}

// dry reports whether the command alone is wanted, and which right that takes.
func (q *request) dry() (bool, flightd.Rights) {
	if q.URL.Query().Get("dry") != "" {
		return true, flightd.Read
	}
	return false, flightd.Admin
}

// command answers with a command line.
func (q *request) command(c *command) error {
	text, err := c.String()
	if err != nil {
		return err
	}
	return q.reply(map[string]string{"command": text})
}

// command is a command line of partd-tables.
type command struct {
	h    *handler
	args []string
	err  error
}

func (c *command) add(args ...string) *command {
	c.args = append(c.args, args...)
	return c
}

// flag adds one, unless its value is "".
func (c *command) flag(name, value string) *command {
	if value == "" {
		return c
	}
	return c.add("--"+name, value)
}

// list adds a flag that takes names with commas between them.
func (c *command) list(name string, values []string) *command {
	if len(values) == 0 {
		return c
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	err := w.Write(values)
	w.Flush()
	line := strings.TrimSuffix(text.String(), "\n")
	if again, late := csv.NewReader(strings.NewReader(line)).Read(); err != nil || late != nil || !slices.Equal(again, values) {
		c.err = errors.Join(c.err, invalid("no command line can say these %s: %q", name, values))
	}
	return c.add("--"+name, line)
}

// place adds where the tables are.
func (c *command) place(a *actionJSON) *command {
	c.flag("server", c.h.url)
	if c.h.opts.Secret != nil {
		c.flag("token-file", "token")
	}
	return c.flag("bucket", a.Bucket)
}

// to adds how, and in which bucket, a target is made.
func (c *command) to(a *actionJSON) *command {
	if c.flag("mode", a.Mode); a.TargetBucket != nil && *a.TargetBucket != a.Bucket {
		c.add("--target-bucket", *a.TargetBucket)
	}
	return c
}

// metadata adds what is set and removed, of a table or of the bucket itself.
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
	all := []string{a.Table}
	for _, key := range slices.Sorted(maps.Keys(a.Set)) {
		value, err := json.Marshal(a.Set[key])
		if c.err = errors.Join(c.err, err); strings.Contains(key, "=") {
			c.err = errors.Join(c.err, invalid("no command line can set the key %q", key))
		}
		all = append(all, key+"="+string(value))
	}
	c.names(all...)
}

// names adds those that are not "".
func (c *command) names(all ...string) {
	c.add("--").add(slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "" })...)
}

// String returns the line, quoted for a shell of POSIX.
func (c *command) String() (string, error) {
	words := []string{"partd-tables"}
	for _, arg := range c.args {
		if strings.ContainsRune(arg, 0) {
			return "", invalid("no command line can have a zero byte")
		}
		words = append(words, textfmt.POSIXQuote(arg))
	}
	return strings.Join(words, " "), c.err
}
