// The editor of SQL: highlighting, and completion of views and columns. It replaces the textarea,
// which stays the field of the form. It is in a shadow root, because the policy of the page forbids
// the style elements that CodeMirror adds to a document.
"use strict";

function openEditor(field) {
  const { EditorView, EditorState, keymap, tags } = CodeMirror;
  const host = document.createElement("div");
  host.className = "editor";
  host.dataset.key = field.dataset.key;
  const root = host.attachShadow({ mode: "open" });
  const submit = () => {
    field.form.requestSubmit();
    return true;
  };
  const colors = CodeMirror.HighlightStyle.define([
    { tag: [tags.keyword, tags.operatorKeyword], color: "var(--accent)", fontWeight: "600" },
    { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
    { tag: [tags.number, tags.bool, tags.null], color: "var(--warn)" },
    { tag: tags.comment, color: "var(--soft)", fontStyle: "italic" },
  ]);
  const theme = EditorView.theme({
    "&": { color: "var(--ink)", backgroundColor: "var(--panel)", fontSize: "0.875rem" },
    "&.cm-focused": { outline: "2.5px solid var(--accent)", outlineOffset: "2px" },
    ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5", minHeight: "8.5rem" },
    ".cm-content": { caretColor: "var(--ink)" },
    ".cm-cursor": { borderLeftColor: "var(--ink)" },
    "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
      backgroundColor: "var(--accent-soft)",
    },
    ".cm-placeholder": { color: "var(--soft)" },
    ".cm-tooltip": { backgroundColor: "var(--panel)", border: "1px solid var(--line)", color: "var(--ink)" },
    ".cm-tooltip-autocomplete > ul > li[aria-selected]": {
      backgroundColor: "var(--accent)",
      color: "var(--accent-ink)",
    },
  });
  const view = new EditorView({
    root,
    state: EditorState.create({
      doc: field.value,
      extensions: [
        keymap.of([{ key: "Mod-Enter", run: submit }]),
        keymap.of([
          ...CodeMirror.completionKeymap,
          ...CodeMirror.historyKeymap,
          ...CodeMirror.defaultKeymap,
        ]),
        CodeMirror.history(),
        CodeMirror.drawSelection(),
        CodeMirror.bracketMatching(),
        // Enter ends the line; an arrow key selects a completion.
        CodeMirror.autocompletion({ selectOnOpen: false, interactionDelay: 0 }),
        CodeMirror.sql({ dialect: CodeMirror.PostgreSQL, schema: JSON.parse(field.dataset.schema) }),
        CodeMirror.syntaxHighlighting(colors),
        CodeMirror.placeholder(field.placeholder),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": "SQL query" }),
        EditorView.domEventHandlers({
          // Chromium would give the new text the style of the replaced one, which the policy forbids.
          beforeinput: (event) => {
            const chosen = root.getSelection ? root.getSelection() : getSelection();
            if (event.inputType !== "insertText" || chosen.isCollapsed) return false;
            const ends = [
              view.posAtDOM(chosen.anchorNode, chosen.anchorOffset),
              view.posAtDOM(chosen.focusNode, chosen.focusOffset),
            ];
            const [from, to] = ends.sort((a, b) => a - b);
            view.dispatch({
              changes: { from, to, insert: event.data },
              selection: { anchor: from + event.data.length },
              userEvent: "input.type",
            });
            event.preventDefault();
            return true;
          },
        }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) field.value = view.state.doc.toString();
        }),
        theme,
      ],
    }),
  });
  root.append(view.dom);
  host.focus = () => view.focus();
  field.after(host);
  field.hidden = true;
  // A hidden field that is required could not be sent, and has no label.
  field.required = false;
  field.removeAttribute("id");
  delete field.dataset.key;
}

for (const field of document.querySelectorAll("textarea[data-schema]")) openEditor(field);
