import "./style.css";
import { type ComponentType, h, render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, onBack, post, type Session, type Tree } from "./api";
import { type App, bucketName, type FormArgs, type FormName, href, readRoute, useStored } from "./common";
import { FormDialog } from "./forms";
import { HomePage } from "./home";
import { PutDialog } from "./put";
import { TreeView } from "./tree";

// lazy returns a component whose code is loaded when it is first shown.
function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let component: ComponentType<P> | undefined;
  return function Later(props: P) {
    const [error, setError] = useState("");
    const [, setReady] = useState(false);
    useEffect(() => {
      if (!component) load().then((loaded) => ((component = loaded), setReady(true)), () => setError("A part of the page could not be loaded: reload the page."));
    }, []);
    return component ? h(component, props) : <p class="empty" role="status">{error || "Loading…"}</p>;
  };
}
const BucketPage = lazy(() => import("./table").then((m) => m.BucketPage));
const TablePage = lazy(() => import("./table").then((m) => m.TablePage));
const SqlPage = lazy(() => import("./sql").then((m) => m.SqlPage));

function SignIn({ onSignedIn }: { onSignedIn: (session: Session) => void }) {
  const [error, setError] = useState("");
  async function submit(event: Event) {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const token = String(new FormData(form).get("token")).trim();
    form.reset();
    await post<Session>("sign-in", { token }).then(onSignedIn, (err: Error) => setError(err.message));
  }
  return (
    <main class="signin">
      <form onSubmit={submit}>
        <h1>Tables</h1>
        <p class="faint">Sign in with a token. An administrator can create one with <code>partd-tables token</code>.</p>
        <label><span>Token</span><input name="token" type="password" autocomplete="off" required autofocus /></label>
        {error && <p class="error" role="alert">{error}</p>}
        <button class="main">Sign in</button>
      </form>
    </main>
  );
}

function Page({ session, signOut }: { session: Session; signOut: () => void }) {
  const [route, setRoute] = useState(readRoute);
  const [tree, setTree] = useState<Tree | null>(null);
  const [error, setError] = useState("");
  const [search, setSearch] = useState("");
  const [reloadCount, setReloadCount] = useState(0);
  const [form, setForm] = useState<{ name: FormName; args: FormArgs } | null>(null);
  const [sidebarWidth, setSidebarWidth] = useStored("partd.sidebar", 280);
  const [menu, setMenu] = useState(false);
  const main = useRef<HTMLElement>(null);
  // sqlWasShown becomes true when the SQL view is first shown. From then on, the SQL view stays mounted while
  // other views are shown.
  const sqlWasShown = useRef(false);

  useEffect(() => {
    const changed = () => (setRoute(readRoute()), setMenu(false));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  useEffect(() => {
    const abort = new AbortController();
    const load = (): unknown => get<Tree>("tree", { search }, abort.signal).then(
      (t) => (setTree(t), setError("")),
      (err: Error) => abort.signal.aborted || (setError(err.message), onBack(err, abort.signal, load)),
    );
    const timer = setTimeout(load, search ? 200 : 0);
    return () => (clearTimeout(timer), abort.abort());
  }, [search, reloadCount]);
  // Preload the table view after the tree, so that the first click shows it without delay.
  useEffect(() => void (tree && import("./table").catch(() => undefined)), [!tree]);
  async function loadMore() {
    const { bucket, table } = tree!.next!;
    const nextPage = await get<Tree>("tree", { search, after_bucket: bucket, after: table }).catch((err: Error) => setError(err.message));
    if (!nextPage) return;
    const buckets = [...tree!.buckets];
    for (const b of nextPage.buckets) {
      const i = buckets.findIndex((known) => known.name === b.name);
      if (i < 0) buckets.push(b);
      else buckets[i] = { ...buckets[i], tables: [...buckets[i].tables, ...b.tables] };
    }
    setTree({ buckets, next: nextPage.next });
  }

  const titleParts = [route.args.get("table"), route.view === "home" ? "" : route.view === "sql" ? "SQL" : bucketName(route.args.get("bucket") ?? "")].filter(Boolean);
  useEffect(() => void (document.title = [...titleParts, "Tables"].join(" · ").slice(0, 200)), [titleParts.join()]);

  const app: App = { session, tree, reloadCount: reloadCount, reload: () => setReloadCount((n) => n + 1), dialog: (name, args) => setForm(name && args ? { name, args } : null) };
  function drag(event: PointerEvent) {
    const handle = event.currentTarget as HTMLElement;
    handle.setPointerCapture(event.pointerId);
    handle.onpointermove = (e) => setSidebarWidth(Math.max(180, Math.min(600, e.clientX)));
    handle.onpointerup = () => (handle.onpointermove = null);
  }
  return (
    <div class={`page at-${route.view}${menu ? " menu" : ""}`} style={{ gridTemplateColumns: `${sidebarWidth}px 1fr` }}>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), main.current?.focus())}>Skip to content</a>
      <nav class="sidebar" aria-label="tables">
        <div class="brand">
          <a href={href("home")}><img src="icon.svg" width="18" height="18" alt="" /> Tables</a>
          <span class="space" />
          <Scheme />
          {session.secret && <button class="quiet" onClick={signOut}>Sign out</button>}
        </div>
        <div class="bar">
          <input class="grow" type="search" placeholder="Search names, key=value" aria-label="Search names and metadata" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        </div>
        <div class="bar">
          <a class="button main grow" href={href("sql")}>SQL</a>
          {session.rights === "admin" && <button onClick={() => setForm({ name: "put", args: { bucket: "" } })}>Put a file…</button>}
          <button aria-label="Reload the tables" title="Reload the tables" onClick={app.reload}>↻</button>
        </div>
        {error && <p class="error" role="alert">{error}</p>}
        <div class="scroll" onDragOver={(e) => e.preventDefault()} onDrop={(e) => {
          const files = [...(e.dataTransfer?.files ?? [])];
          if (e.defaultPrevented || !files.length) return e.preventDefault();
          e.preventDefault();
          if (session.rights === "admin") setForm({ name: "put", args: { bucket: "", files } });
        }}>
          {tree ? <TreeView app={app} searching={!!search} lost={!!error} more={loadMore} current={location.hash} /> : !error && <p class="empty">Loading…</p>}
        </div>
        <div class="edge" role="separator" aria-orientation="vertical" aria-label="width of the sidebar" tabIndex={0} aria-valuenow={sidebarWidth} aria-valuemin={180} aria-valuemax={600} onPointerDown={drag} onKeyDown={(e) => {
          const step = e.key === "ArrowLeft" ? -16 : e.key === "ArrowRight" ? 16 : 0;
          if (step) setSidebarWidth(Math.max(180, Math.min(600, sidebarWidth + step)));
        }} />
      </nav>
      <main id="main" ref={main} tabIndex={-1}>
        <button class="burger" aria-expanded={menu} onClick={() => setMenu(!menu)}>☰ Tables</button>
        {route.view === "table" && <TablePage app={app} args={route.args} />}
        {route.view === "bucket" && <BucketPage app={app} args={route.args} />}
        {route.view === "home" && <HomePage app={app} />}
        {(sqlWasShown.current ||= route.view === "sql") && <SqlPage app={app} args={route.args} visible={route.view === "sql"} />}
      </main>
      {form?.name === "put" && <PutDialog app={app} args={form.args} close={() => setForm(null)} />}
      {form && form.name !== "put" && <FormDialog key={form.name} app={app} name={form.name} args={form.args} close={() => setForm(null)} />}
    </div>
  );
}

// forget removes a user's data from this browser before another user signs in.
function forget() {
  for (const key of Object.keys(localStorage)) {
    if (/^partd\.(?!sidebar$|scheme$)/.test(key)) localStorage.removeItem(key);
  }
}

const schemes = ["auto", "light", "dark"];
function Scheme() {
  const [scheme, setScheme] = useStored("partd.scheme", "auto");
  useEffect(() => {
    document.documentElement.dataset.scheme = scheme;
    dispatchEvent(new Event("scheme"));
  }, [scheme]);
  return (
    <button class="quiet" aria-label={`colours: ${scheme}`} title={`Colours: ${scheme}`} onClick={() => setScheme(schemes[(schemes.indexOf(scheme) + 1) % 3])}>
      {scheme === "light" ? "☀" : scheme === "dark" ? "☾" : "◐"}
    </button>
  );
}

function Root() {
  const [session, setSession] = useState<Session | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    const abort = new AbortController();
    const load = (): unknown => get<Session>("session").then((s) => (setSession(s), setError("")), (err: Error) => (setError(err.message), onBack(err, abort.signal, load)));
    void load();
    addEventListener("signed-out", load, { signal: abort.signal });
    return () => abort.abort();
  }, []);
  if (error) return <p class="empty big" role="alert">{error}</p>;
  if (!session) return null;
  if (!session.signed_in) return <SignIn onSignedIn={setSession} />;
  return <Page session={session} signOut={() => void post<Session>("sign-out", {}).then((s) => (setSession(s), forget()))} />;
}

render(<Root />, document.getElementById("page")!);
