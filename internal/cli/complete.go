package cli

import (
	"context"
	"encoding/base64"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
	"github.com/go-partd/partd/internal/output"
)

// What the shell completes has to be there at once.
const (
	maxCompletions = 1000
	completionTime = time.Second
	completionHead = 1 << 20 // bytes of a file in which its header is looked for
)

// completeStore completes the URL of a store: first layers and the scheme, then
// the directory.
func completeStore(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	const goOn = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	scheme, path, ok := strings.Cut(begun, ":")
	if !ok {
		return completeScheme(cmd.Context(), begun), goOn
	}
	if strings.HasSuffix(scheme, "tcp") || strings.HasSuffix(scheme, "tls") {
		return nil, goOn
	}
	slashes := ""
	if strings.HasSuffix(scheme, "ipc") {
		slashes, path = "//", strings.TrimPrefix(path, "//")
	}
	parent := path[:strings.LastIndexByte(path, '/')+1]
	entries, err := os.ReadDir("./" + parent)
	if strings.HasPrefix(parent, "/") {
		entries, err = os.ReadDir(parent)
	}
	if err != nil {
		return nil, goOn
	}
	var urls []string
	for _, e := range entries {
		fits := e.IsDir() || slashes != "" && e.Type() == fs.ModeSocket
		if fits && strings.HasPrefix(parent+e.Name(), path) && cliutil.Plain(e.Name()) && len(urls) < maxCompletions {
			urls = append(urls, scheme+":"+slashes+parent+e.Name())
		}
	}
	return urls, goOn
}

// completeScheme completes the layers and the scheme of a URL, those of memory
// left out.
func completeScheme(ctx context.Context, begun string) []string {
	done := begun[:strings.LastIndexByte(begun, '+')+1]
	schemes, prefixes := setOf(ctx).Parts()
	var all []string
	for _, p := range append(schemes, prefixes...) {
		if p.Name != "mem:" && strings.HasPrefix(done+p.Name, begun) {
			all = append(all, done+p.Name+"\t"+p.About)
		}
	}
	return all
}

// completeKeys completes the keys of a store that exists.
func completeKeys(url *string, coded *bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
		const keysOnly = cobra.ShellCompDirectiveNoFileComp
		if env.Set(cmd) != nil {
			return nil, keysOnly
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		store, err := openReading(ctx, *url)
		if err != nil {
			return nil, keysOnly
		}
		defer func() { _ = partd.Close(ctx, store) }() // nothing was written
		var keys []string
		for info, err := range partd.Keys(ctx, store) {
			if err != nil || len(keys) == maxCompletions {
				break
			}
			key := info.Key
			if *coded {
				key = base64.StdEncoding.EncodeToString([]byte(key))
			}
			if strings.HasPrefix(key, begun) && cliutil.Plain(key) && !slices.Contains(given, key) {
				keys = append(keys, key)
			}
		}
		return keys, keysOnly
	}
}

// completeFields makes the shell complete the names of the columns of the first
// file given, for a flag that lists fields between commas.
func completeFields(cmd *cobra.Command, flag string, f *inputFlags) {
	const namesOnly = cobra.ShellCompDirectiveNoFileComp
	must(cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, files []string, begun string) ([]string, cobra.ShellCompDirective) {
		before := begun[:strings.LastIndexByte(begun, ',')+1]
		var names []string
		for _, c := range columnsOf(cmd, files, f) {
			if strings.ContainsAny(c, ",\"") {
				c = string(output.AppendCSV(nil, []byte(c), ','))
			}
			names = append(names, before+c)
		}
		return names, namesOnly
	}))
}

// completeAggregates makes the shell complete the last aggregate of --agg.
func completeAggregates(cmd *cobra.Command, f *inputFlags) {
	const goOn = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	must(cmd.RegisterFlagCompletionFunc("agg", func(cmd *cobra.Command, files []string, begun string) ([]string, cobra.ShellCompDirective) {
		var all []string
		if open := strings.LastIndexByte(begun, '('); open > strings.LastIndexByte(begun, ')') { // in its parentheses
			end := ")"
			of, err := aggregate.Parse(begun[strings.LastIndexByte(begun[:open], ',')+1:open] + "(x,0)")
			if err == nil && of[0].Field == "x" && !strings.Contains(begun[open:], ",") { // the first of two
				end = ","
			}
			before := begun[:strings.LastIndexAny(begun, "(,")+1]
			for _, c := range columnsOf(cmd, files, f) {
				all = append(all, before+c+end)
			}
			return all, goOn
		}
		before := begun[:strings.LastIndexByte(begun, ',')+1]
		for a := range strings.SplitSeq(aggregate.Names, ", ") {
			name, _, takes := strings.Cut(a, "(")
			if takes {
				name += "("
			}
			all = append(all, before+name)
		}
		return all, goOn
	}))
}

// columnsOf returns the names of the columns of the first file.
func columnsOf(cmd *cobra.Command, files []string, f *inputFlags) []string {
	if env.Set(cmd) != nil || len(files) == 0 || files[0] == filejobs.Stdin {
		return nil
	}
	layout, err := f.layout(files[:1])
	if err != nil || !layout.HasHeader() {
		return nil
	}
	columns, err := filejobs.Columns(files[0], layout, completionHead)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(columns, func(c string) bool { return !cliutil.Plain(c) })
}
