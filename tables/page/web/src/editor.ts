// The SQL editor. It is in a shadow root, so that CodeMirror adds its styles as constructed style
// sheets, which the page's Content-Security-Policy allows.
import { autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, completeFromList, type Completion, completionKeymap, type CompletionSource, completionStatus, ifNotIn, startCompletion } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { keywordCompletionSource, PostgreSQL, schemaCompletionSource, SQLDialect, type SQLNamespace } from "@codemirror/lang-sql";
import { bracketMatching, ensureSyntaxTree, forceParsing, HighlightStyle, LanguageSupport, syntaxHighlighting, syntaxTree } from "@codemirror/language";
import { type Diagnostic, setDiagnostics } from "@codemirror/lint";
import { Compartment, EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { functions } from "./duckdb";
import { indexOfPosition } from "./state";

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--accent)", fontWeight: "600" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--string)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--number)" },
  { tag: [tags.lineComment, tags.blockComment], color: "var(--faint)", fontStyle: "italic" },
  { tag: tags.typeName, color: "var(--number)" },
]);

const theme = EditorView.theme({
  "&": { height: "100%", fontSize: "13px", color: "var(--text)", backgroundColor: "var(--ground)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content": { caretColor: "var(--text)", padding: "10px 0" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--ground)", color: "var(--faint)", border: "none", paddingLeft: "6px" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--select)" },
  ".cm-placeholder": { color: "var(--faint)" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--text)", border: "1px solid var(--line)", borderRadius: "6px", overflow: "hidden" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
});

export type Names = Record<string, { self: Completion; children: Completion[] | Record<string, unknown> }>;
export interface Editor {
  view: EditorView;
  schema(names: Names): void;
  // mark shows an error at a line and column of the statement text, which begins at index from. Without a
  // place, it only removes the previous mark.
  mark(message: string, place?: { text: string; from: number; line: number; column: number }): void;
  statements(): { sql: string; from: number }[];
  format(): Promise<void>;
}

const functionNames = new Set(functions.split(" "));
const duckdb = SQLDialect.define({ ...PostgreSQL.spec, keywords: words(PostgreSQL.spec.keywords, "qualify summarize describe pivot unpivot anti semi asof exclude") });

// words removes the names of DuckDB's functions from keywords and adds the keywords in more.
function words(keywords = "", more: string): string {
  return [...keywords.split(" ").filter((word) => !functionNames.has(word)), more].join(" ");
}

// unfinished returns a source that omits a name that is already typed in full, because Enter would insert the name
// again instead of a new line. Without validFor, the editor asks the source again after each letter.
const unfinished = (source: CompletionSource): CompletionSource => async (context) => {
  const result = await source(context);
  if (!result || context.explicit) return result;
  const typed = context.state.sliceDoc(result.from, context.pos).toLowerCase();
  const inserted = ({ label, apply }: Completion) => (typeof apply === "string" ? apply.replace(/\($/, "") : label).toLowerCase();
  return { ...result, options: result.options.filter((option) => inserted(option) !== typed), validFor: undefined };
};

export function editor(host: HTMLElement, text: string, changed: (text: string) => void, run: () => void): Editor {
  const root = host.attachShadow({ mode: "open" });
  const language = new Compartment();
  // Functions are not keywords of the dialect, because keywords hide names that begin with the same letters.
  const functionCompletions = completeFromList([...functionNames].map((label) => ({ label, type: "function", apply: `${label}(` })));
  const excludedNodes = ["QuotedIdentifier", "String", "LineComment", "BlockComment", "."];
  const names = (schema: SQLNamespace) => new LanguageSupport(duckdb.language, [
    schemaCompletionSource({ dialect: duckdb, schema }),
    keywordCompletionSource(duckdb, true, (label, type) => ({ label, type, boost: -1 })),
    ifNotIn(excludedNodes, functionCompletions),
  ].map((source) => duckdb.language.data.of({ autocomplete: unfinished(source) })));
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        lineNumbers(),
        history(),
        drawSelection(),
        bracketMatching(),
        closeBrackets(),
        autocompletion(),
        highlightActiveLine(),
        EditorView.lineWrapping,
        placeholder(`SELECT … FROM a table in the tree.${matchMedia("(pointer: coarse)").matches ? "" : "  Press Ctrl+Enter to run it."}`),
        EditorView.contentAttributes.of({ "aria-label": "SQL statement" }),
        language.of(names({})),
        syntaxHighlighting(colours),
        theme,
        keymap.of([
          { key: "Mod-Enter", run: (view) => (closeCompletion(view), run(), true) },
          { key: "Shift-Alt-f", run: () => (void format(), true) },
          ...closeBracketsKeymap,
          ...completionKeymap,
          ...historyKeymap,
          ...defaultKeymap,
        ]),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) changed(update.state.doc.toString());
        }),
      ],
    }),
  });
  async function format() {
    const { formatDialect, duckdb } = await import("./format");
    const { from, to, empty } = view.state.selection.main;
    const range = empty ? { from: 0, to: view.state.doc.length } : { from, to };
    const insert = formatDialect(view.state.sliceDoc(range.from, range.to), { dialect: duckdb, keywordCase: "upper" });
    view.dispatch({ changes: { ...range, insert }, selection: { anchor: range.from + (empty ? insert.length : 0), head: range.from + insert.length } });
  }
  return {
    view,
    format,
    // statements returns the statements in the selection or, without a selection, all statements.
    statements() {
      const { doc, selection } = view.state;
      const range = selection.main.empty ? { from: 0, to: doc.length } : selection.main;
      const statements: { sql: string; from: number }[] = [];
      const tree = ensureSyntaxTree(view.state, doc.length, 1000) ?? syntaxTree(view.state);
      for (let node = tree.topNode.firstChild; node; node = node.nextSibling) {
        const from = Math.max(node.from, range.from);
        const sql = doc.sliceString(from, Math.min(node.to, range.to)).replace(/[;\s]+$/, "");
        if (node.name === "Statement" && from < range.to && sql) statements.push({ sql, from });
      }
      return statements;
    },
    schema(schema) {
      const open = completionStatus(view.state);
      view.dispatch({ effects: language.reconfigure(names(schema as SQLNamespace)) });
      const nodeName = () => syntaxTree(view.state).resolveInner(view.state.selection.main.head, -1).name;
      if (open && forceParsing(view, view.state.doc.length) && /Identifier/.test(nodeName())) startCompletion(view); // show the new names
    },
    mark(message, place) {
      const marks: Diagnostic[] = [];
      if (message && place) {
        const end = view.state.doc.length;
        const from = Math.min(end, place.from + indexOfPosition(place.text, place.line, place.column));
        marks.push({ from, to: Math.min(end, view.state.wordAt(from)?.to ?? from + 1), severity: "error", message });
        view.dispatch({ selection: { anchor: from }, scrollIntoView: true });
      }
      view.dispatch(setDiagnostics(view.state, marks));
    },
  };
}
