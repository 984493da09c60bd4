package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

func newEvolve(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evolve [flags] [--] NAME",
		Short: "Change the columns of a table, or allow puts to change them",
		Long: `Change the columns of a table in one commit: first --rename, then --drop, --widen and --add.
Older versions keep their columns. Existing rows have null in added columns.

--mode sets which column changes are allowed, for puts and for this command:
  strict      none
  add_only    add columns
  compatible  add columns and widen numeric types
  flexible    any change; puts can still only add and widen columns
  ""          any change by this command, and none by puts (the default)
If a put lacks columns of the table, they are null with flexible and "". With the other modes, the
put fails.`,
		Example: `  partd-tables evolve trades --add venue:utf8 --rename sym:symbol
  partd-tables evolve trades --widen volume:int64 --drop note --bucket NYSE
  partd-tables evolve trades --mode compatible`,
	}
	p := locationFlags(cmd, tableBucketUsage)
	fs := cmd.Flags()
	mode := fs.String("mode", "", "the `MODE`: strict, add_only, compatible, flexible, or empty")
	changes := map[tables.ColumnOp]*[]string{
		tables.RenameColumn: fs.StringArray("rename", nil, "rename a column, as `NAME:NEW`"),
		tables.DropColumn:   fs.StringArray("drop", nil, "drop the column `NAME`"),
		tables.WidenColumn:  fs.StringArray("widen", nil, "widen the type of a numeric column, as `NAME:TYPE`, such as n:int64"),
		tables.AddColumn:    fs.StringArray("add", nil, "add a column, as `NAME:TYPE`, such as at:timestamp[us]"),
	}
	cliutil.Complete(cmd, "mode", "strict", "add_only", "compatible", "flexible")
	return operationCommand(cmd, p, operations.Evolve, func(args []string) (*operations.Evolution, error) {
		evolution := &operations.Evolution{Bucket: *p.bucket, Name: args[0]}
		for _, op := range []tables.ColumnOp{tables.RenameColumn, tables.DropColumn, tables.WidenColumn, tables.AddColumn} {
			for _, text := range *changes[op] {
				c, err := parseColumnChange(op, text)
				if err != nil {
					return nil, err
				}
				evolution.Changes = append(evolution.Changes, c)
			}
		}
		if fs.Changed("mode") {
			evolution.Mode = (*tables.Evolution)(mode)
		} else if len(evolution.Changes) == 0 {
			return nil, cliutil.Usagef("nothing to change: use --mode, --add, --rename, --drop or --widen")
		}
		return evolution, nil
	}, printNothing)
}

// parseColumnChange parses the value of a flag for op: NAME, NAME:NEW or NAME:TYPE.
func parseColumnChange(op tables.ColumnOp, text string) (tables.ColumnChange, error) {
	c := tables.ColumnChange{Op: op, Column: text}
	if op == tables.DropColumn {
		return c, nil
	}
	// Split at the last colon before any bracket, because the type may be, for example, timestamp[us, +01:00].
	body, _, _ := strings.Cut(text, "[")
	colon := strings.LastIndexByte(body, ':')
	if colon < 0 {
		return c, cliutil.Usagef("--%s %q has no colon: write NAME:%s", op, text, map[bool]string{true: "NEW", false: "TYPE"}[op == tables.RenameColumn])
	}
	c.Column, c.To = body[:colon], text[colon+1:]
	if op != tables.RenameColumn {
		c.To, c.Type = "", tables.ColumnType(c.To)
	}
	return c, nil
}

type ruleLine struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	About string `json:"about"`
	State string `json:"state"`
}

// formatRule converts a rule to a line for printList. About lists all other fields that are not zero.
func formatRule(r tables.Rule) ruleLine {
	line := ruleLine{r.Name, r.Kind, "", map[bool]string{true: "disabled", false: "enabled"}[r.Disabled]}
	var details []string
	v := reflect.ValueOf(r)
	for _, f := range reflect.VisibleFields(v.Type()) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key != "name" && key != "kind" && key != "disabled" && !v.FieldByIndex(f.Index).IsZero() {
			details = append(details, fmt.Sprintf("%s=%v", key, v.FieldByIndex(f.Index)))
		}
	}
	line.About = strings.Join(details, " ")
	return line
}

func newRules(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules [flags] list|add|remove|enable|disable [NAME] [RULE…]",
		Short: "List and change the rules that rows must satisfy",
		Long: `List or change the rules that the rows of a table must satisfy. If a row violates a rule, the
whole put fails. With --whole-bucket and no NAME, the rules belong to the bucket and apply to all
its tables, including new ones.

For add, a RULE is a JSON object with a name and a kind: exists, type, range, not_null, unique,
sorted, regexp or expression. --set time_series and --set prices add several predefined rules. For
remove, enable and disable, a RULE is the name of a rule.`,
		Example: `  partd-tables rules add trades '{"name":"positive","kind":"range","column":"price","min":"0"}'
  partd-tables rules add trades --set time_series
  partd-tables rules list trades --json
  partd-tables rules disable --whole-bucket --bucket NYSE "high is highest"`,
		Args: cliutil.CheckArgCount(1, -1, "list, add, remove, enable or disable"),
	}
	p := readFlags(cmd, tableBucketUsage)
	fs := cmd.Flags()
	asJSON := fs.Bool("json", false, "write a JSON object for each rule")
	wholeBucket := fs.Bool("whole-bucket", false, "list or change the rules of the bucket itself; leave out NAME")
	var edit tables.RuleEdit
	fs.StringArrayVar(&edit.Sets, "set", nil, "add a predefined `SET`: time_series or prices")
	fs.StringVar(&edit.Time, "time", "", "time `COLUMN` that the rules of --set check")
	cliutil.Complete(cmd, "set", "time_series", "prices")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		action, name, rules := args[0], "", args[1:]
		if !*wholeBucket {
			if len(rules) == 0 {
				return cliutil.Usagef("rules %s needs the NAME of a table, or --whole-bucket", action)
			}
			name, rules = rules[0], rules[1:]
			if name == "" {
				return cliutil.Usagef("the NAME is empty: for the bucket's own rules, use --whole-bucket")
			}
		}
		edit := edit
		switch action {
		case "list":
		case "add":
			for _, text := range rules {
				var r tables.Rule
				if err := json.Unmarshal([]byte(text), &r); err != nil {
					return cliutil.Usagef("rule %s: %w", text, err)
				}
				edit.Add = append(edit.Add, r)
			}
		case "remove":
			edit.Remove = rules
		case "enable":
			edit.Enable = rules
		case "disable":
			edit.Disable = rules
		default:
			return cliutil.Usagef("rules: unknown action %q: use list, add, remove, enable or disable", action)
		}
		if (action == "list") != (len(rules)+len(edit.Sets) == 0) || action != "add" && len(edit.Sets) > 0 {
			return cliutil.Usagef("rules %s: list accepts no RULE, the other actions need at least one, and only add accepts --set", action)
		}
		ctx := cmd.Context()
		return p.withBackend(ctx, false, func(s backend) error {
			if action != "list" {
				return operations.EditRules.Change(ctx, s.Target, &operations.RuleEdit{Bucket: *p.bucket, Name: name, RuleEdit: edit})
			}
			rules, err := operations.Rules.Do(ctx, s.Target, &operations.Table{Bucket: *p.bucket, Name: name})
			if err != nil {
				return err
			}
			if *asJSON {
				return printList(a.out, true, rules, func(r tables.Rule) tables.Rule { return r })
			}
			return printList(a.out, false, rules, formatRule)
		})
	}
	return cmd
}

// settingsFlags adds the flags for a table's settings. After the flags are parsed, the returned function returns the
// settings, and the JSON names of the settings whose flags are set. names is nil if no flag is set.
func settingsFlags(cmd *cobra.Command) func() (s tables.Settings, names []string) {
	fs := cmd.Flags()
	var s tables.Settings
	fs.StringVar(&s.Time, "time", "", "time `COLUMN`: the table's rows are ordered by it")
	fs.StringArrayVar(&s.Keys, "key", nil, "key `COLUMN`, to distinguish rows with equal times; may be repeated")
	fs.StringVar((*string)(&s.OnDuplicate), "on-duplicate", "", "`RULE` for rows with equal times and keys: keep_all, keep_first, keep_last or error")
	cliutil.Complete(cmd, "on-duplicate", string(tables.KeepAll), string(tables.KeepFirst), string(tables.KeepLast), string(tables.RefuseDuplicate))
	fs.StringVar((*string)(&s.Compression), "compression", "", "compress new files for speed or size: `KIND` is fast (the default) or small")
	cliutil.Complete(cmd, "compression", string(tables.CompressFast), string(tables.CompressSmall))
	fs.StringVar(&s.Maintenance, "maintenance", "", "whether a server maintains the table: `CHOICE` is on or off (default: see serve --maintain)")
	cliutil.Complete(cmd, "maintenance", tables.MaintenanceOn, tables.MaintenanceOff)
	fs.IntVar(&s.KeepVersions, "keep-versions", 0, "let a server expire all versions except the newest `N`")
	fs.StringVar(&s.KeepAge, "keep-age", "", "let a server expire versions that are older than this `AGE`, such as 720h")
	return func() (tables.Settings, []string) {
		var names []string
		for _, flag := range []string{"time", "key", "on-duplicate", "compression", "maintenance", "keep-versions", "keep-age"} {
			if fs.Changed(flag) {
				names = append(names, strings.ReplaceAll(strings.Replace(flag, "key", "keys", 1), "-", "_"))
			}
		}
		if slices.Equal(s.Keys, []string{""}) {
			s.Keys = nil
		}
		return s, names
	}
}

func newSettings(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settings [flags] [--] NAME",
		Short: "Show or change the settings of a table",
		Long: `Print all settings of a table as JSON, after changing the settings whose flags are given. An
empty value unsets a setting. Changing the time column, the key columns or the rule for
duplicates rewrites the table's files in a single commit.`,
		Example: "  partd-tables settings trades --time time --key sym --on-duplicate keep_last",
	}
	p := readFlags(cmd, tableBucketUsage)
	change := settingsFlags(cmd)
	return p.command(cmd, func(ctx context.Context, s backend, args []string) error {
		if settings, only := change(); only != nil {
			if _, err := operations.SetSettings.Do(ctx, s.Target, &operations.TableSettings{Bucket: *p.bucket, Name: args[0], Settings: settings, Only: only}); err != nil {
				return err
			}
		}
		settings, err := operations.Settings.Do(ctx, s.Target, &operations.Table{Bucket: *p.bucket, Name: args[0]})
		if err != nil {
			return err
		}
		return cliutil.NewEncoder(a.out).Encode(settings)
	})
}
