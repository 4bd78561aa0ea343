// Runs in a page before its own scripts and tells when Streamlit is at rest: the newest run it was asked for (BackMsg.rerun_script,
// field 11) has ended (ForwardMsg.script_finished, field 6; 2 is an end for the sake of another run). Streamlit's own mark in the
// page says nothing between a click and the server's answer, which on a busy machine is long.

(() => {
  const ended = bytes => {
    let at = 0;
    const number = () => {
      let n = 0, unit = 1, byte;
      do { byte = bytes[at++]; n += (byte & 127) * unit; unit *= 128; } while (byte > 127);
      return n;
    };
    while (at < bytes.length) {
      const tag = number(), value = number();
      if (tag % 8 === 0 && tag >> 3 === 6) return value !== 2;
      if (tag % 8 === 2) at += value;
      else if (tag % 8 !== 0) return false;
    }
    return false;
  };
  const runs = window.streamlitRuns = { asked: 0, ended: 0, since: 0 };
  window.WebSocket = class extends window.WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ev => {
        if (ev.data instanceof ArrayBuffer && ended(new Uint8Array(ev.data))) runs.ended = performance.now();
      });
    }

    send(data) {
      if (data[0] === (11 << 3) + 2) runs.asked = performance.now();
      super.send(data);
    }
  };
  window.streamlitRests = ms => {
    const app = document.querySelector("[data-testid=stApp]");
    const rests = app?.dataset.testScriptState === "notRunning" && app.dataset.testConnectionState === "CONNECTED"
      && runs.asked > 0 && runs.ended > runs.asked && !document.querySelector("[data-testid=stSkeleton]");
    if (!rests) runs.since = 0;
    else runs.since ||= performance.now();
    return rests && performance.now() - runs.since > ms;
  };
})();
