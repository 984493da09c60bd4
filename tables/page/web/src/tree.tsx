// Shows the tree of buckets, tables, columns, versions and snapshots.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Table } from "./api";
import { type App, bucketName, formatCount, tableCount, href, parseRoute, shorten, formatTime } from "./common";

interface Node {
  id: string;
  level: number;
  label: string;
  detail?: string;
  kind: "bucket" | "table" | "group" | "column" | "version" | "snapshot" | "note";
  open?: boolean; // undefined for a node without children
  address?: string; // the address that a click opens
  drop?: string; // the bucket into which a file dropped on the node is put
}

// idOf encodes names as JSON, because they may contain slashes.
const idOf = (bucket: string, table: string) => `t/${JSON.stringify([bucket, table])}`;

interface Props {
  app: App;
  searching: boolean;
  lost: boolean; // whether the tree could not be loaded
  more: () => void;
  current: string;
}

export function TreeView({ app, searching, lost, more, current }: Props) {
  const [open, setOpen] = useState<Record<string, boolean>>({});
  const [tables, setTables] = useState<Record<string, Table | string>>({});
  const [active, setActive] = useState("");
  const [dropBucket, setDropBucket] = useState<string | null>(null);
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => setTables({}), [app.tree]);
  // Select the node for the current address, and open the nodes above it.
  const { view, args } = parseRoute(current);
  const [bucket, table] = [args.get("bucket") ?? "", args.get("table") ?? ""];
  const selected = view === "table" ? (args.get("version") ? `${idOf(bucket, table)}/v/${args.get("version")}` : idOf(bucket, table)) : view !== "bucket" ? "" : args.get("snapshot") ? `s/${bucket}/${args.get("snapshot")}` : `b/${bucket}`;
  useEffect(() => {
    if (!selected) return;
    const inVersion = view === "table" && args.has("version");
    const ancestors = [`b/${bucket}`, ...(inVersion ? [idOf(bucket, table), `${idOf(bucket, table)}/v`] : []), ...(selected.startsWith("s/") ? [`s/${bucket}`] : [])];
    setOpen((o) => ({ ...o, ...Object.fromEntries(ancestors.map((id) => [id, true])) }));
    setActive(selected);
  }, [selected]);

  const nodes: Node[] = [];
  function isOpen(id: string, first = false): boolean {
    return open[id] ?? first;
  }
  for (const bucket of app.tree?.buckets ?? []) {
    const id = `b/${bucket.name}`;
    const openByDefault = app.tree!.buckets.length <= 8 || searching;
    nodes.push({ id, level: 1, label: bucketName(bucket.name), kind: "bucket", open: isOpen(id, openByDefault), address: href("bucket", { bucket: bucket.name }), drop: bucket.name });
    if (!isOpen(id, openByDefault)) continue;
    for (const table of bucket.tables) {
      const args = { bucket: bucket.name, table: table.name };
      const tableId = idOf(bucket.name, table.name);
      nodes.push({ id: tableId, level: 2, label: table.name, detail: tableCount(table), kind: "table", open: isOpen(tableId), address: href("table", args), drop: bucket.name });
      if (isOpen(tableId)) pushTableNodes(tableId, args);
    }
    if (bucket.snapshots?.length) {
      const group = `s/${bucket.name}`;
      nodes.push({ id: group, level: 2, label: "Snapshots", detail: formatCount(bucket.snapshots.length), kind: "group", open: isOpen(group) });
      for (const s of isOpen(group) ? bucket.snapshots : []) {
        const go = href("bucket", { bucket: bucket.name, snapshot: s.name });
        nodes.push({ id: `${group}/${s.name}`, level: 3, label: s.name, detail: formatTime(s.time).slice(0, 10), kind: "snapshot", address: go });
      }
    }
  }
  function pushTableNodes(id: string, args: { bucket: string; table: string }) {
    const loaded = tables[id];
    if (typeof loaded !== "object") {
      nodes.push({ id: `${id}/…`, level: 3, label: loaded ?? "Loading…", kind: "note" });
      return;
    }
    for (const column of loaded.columns) {
      nodes.push({ id: `${id}/c/${column.name}`, level: 3, label: column.name, detail: column.type, kind: "column" });
    }
    const group = `${id}/v`;
    nodes.push({ id: group, level: 3, label: "Versions", detail: formatCount(loaded.versions.length), kind: "group", open: isOpen(group) });
    for (const v of isOpen(group) ? [...loaded.versions].reverse() : []) {
      const go = href("table", { ...args, version: v.version });
      nodes.push({ id: `${group}/${v.version}`, level: 4, label: `${v.version} ${v.operation}`, detail: formatTime(v.time), kind: "version", address: go });
    }
  }

  const toLoad = nodes.filter((n) => n.kind === "table" && n.open && !tables[n.id]).map((n) => n.id).join("\0");
  useEffect(() => {
    for (const id of toLoad ? toLoad.split("\0") : []) {
      const [bucket, table] = JSON.parse(id.slice(2)) as string[];
      get<Table>("table", { bucket, table }).then(
        (table) => setTables((all) => ({ ...all, [id]: table })),
        (err: Error) => setTables((all) => ({ ...all, [id]: err.message })),
      );
    }
  }, [toLoad]);

  const selectedIndex = nodes.findIndex((n) => n.id === selected);
  useEffect(() => list.current?.children[selectedIndex]?.scrollIntoView({ block: "nearest" }), [selected, selectedIndex >= 0]);
  const activeIndex = Math.max(0, nodes.findIndex((n) => n.id === active));
  function toggle(node: Node, open = !node.open) {
    if (node.open !== undefined) setOpen((o) => ({ ...o, [node.id]: open }));
  }
  function choose(node: Node) {
    setActive(node.id);
    if (node.address && node.id !== selected) location.hash = node.address;
    if (!node.address || (node.kind === "bucket" && (node.id === selected || !node.open))) toggle(node);
  }
  function focus(index: number) {
    const target = Math.max(0, Math.min(nodes.length - 1, index));
    setActive(nodes[target]?.id ?? "");
    list.current?.children[target]?.scrollIntoView({ block: "nearest" });
  }
  function onKey(event: KeyboardEvent) {
    const node = nodes[activeIndex];
    if (!node) return;
    const parent = () => focus(nodes.findLastIndex((n, i) => i < activeIndex && n.level < node.level));
    const keys: Record<string, () => void> = {
      ArrowDown: () => focus(activeIndex + 1),
      ArrowUp: () => focus(activeIndex - 1),
      Home: () => focus(0),
      End: () => focus(nodes.length - 1),
      ArrowRight: () => (node.open === false ? toggle(node, true) : focus(activeIndex + 1)),
      ArrowLeft: () => (node.open ? toggle(node, false) : parent()),
      Enter: () => choose(node),
      " ": () => choose(node),
    };
    if (!keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
  }
  function onDrop(event: DragEvent, bucket: string) {
    event.preventDefault();
    setDropBucket(null);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) app.dialog("put", { bucket, files });
  }

  if (app.tree && !nodes.length) {
    if (lost) return null; // the page shows the error
    const empty = app.session.rights === "admin" ? "No tables yet. Drop a CSV or Parquet file here, or use the button above." : "There are no tables that you may read.";
    return <p class="empty">{searching ? "No table contains all of these words in its name or metadata." : empty}</p>;
  }
  return (
    <>
      <div class="tree" ref={list} role="tree" tabIndex={0} aria-label="Buckets and tables" aria-activedescendant={nodes.length ? `n${activeIndex}` : undefined} onKeyDown={onKey}>
        {nodes.map((node, i) => (
          <div
            key={node.id}
            id={`n${i}`}
            role="treeitem"
            aria-level={node.level}
            aria-expanded={node.open}
            aria-selected={node.id === selected}
            class={`node ${node.kind} level${node.level}${i === activeIndex ? " active" : ""}${dropBucket !== null && node.drop === dropBucket ? " over" : ""}`}
            title={shorten(node.label, 300)}
            onClick={() => choose(node)}
            onDragOver={(e) => node.drop !== undefined && (e.preventDefault(), setDropBucket(node.drop))}
            onDragLeave={() => setDropBucket(null)}
            onDrop={(e) => node.drop !== undefined && onDrop(e, node.drop)}
          >
            <i class={`twist${node.open === undefined ? " none" : node.open ? " open" : ""}`} aria-hidden="true" onClick={(e) => node.open !== undefined && (e.stopPropagation(), toggle(node))} />
            <bdi class="label">{shorten(node.label)}</bdi>
            {node.detail && <small>{node.detail}</small>}
          </div>
        ))}
      </div>
      {app.tree?.next && <button class="quiet wide" onClick={more}>More tables…</button>}
    </>
  );
}
