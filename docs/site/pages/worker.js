// Makes the search work on pages opened as files. Browsers start no workers for such pages, so
// the worker's script runs in a frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script src="${url}"></script>`;
      this.loaded = new Promise((done) => {
        frame.onload = () => {
          frame.contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          done(frame.contentWindow);
        };
      });
      document.body.append(frame);
    }
    postMessage(data) {
      this.loaded.then((frameWindow) => frameWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
