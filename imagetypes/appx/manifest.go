package appx

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/imgbuild/imgbuild/description"
)

// change is an attribute that the description sets in the manifest.
type change struct{ element, attribute, value string }

// architectures are the names that Windows has for architectures, by the kernel's.
func architectures() map[string]string { return map[string]string{"x86_64": "x64", "aarch64": "arm64"} }

// changes are what the description says about the package.
func changes(d *description.Image) []change {
	var h description.History
	if d.Type.Container != nil {
		h = d.Type.Container.History
	}
	all := []change{
		{"Identity", "ProcessorArchitecture", architectures()[d.Arch]},
		{"Identity", "Version", h.PackageVersion},
		{"Identity", "Publisher", h.CreatedBy},
		{"VisualElements", "Description", strings.TrimSpace(h.Comment)},
		{"Application", "Id", h.ApplicationID},
		{"Application", "Executable", h.Launcher},
		{"Extension", "Executable", h.Launcher},
		{"ExecutionAlias", "Alias", h.Launcher},
	}
	var set []change
	for _, c := range all {
		if c.value != "" {
			set = append(set, c)
		}
	}
	return set
}

// rewrite sets attributes of elements, by their names without prefix, in a manifest. All else stays as it is, byte for byte.
func rewrite(manifest []byte, list []change) ([]byte, error) {
	var out bytes.Buffer
	decoder := xml.NewDecoder(bytes.NewReader(manifest))
	encoding := ""
	decoder.CharsetReader = func(label string, r io.Reader) (io.Reader, error) {
		encoding = label
		return r, nil
	}
	done, root := int64(0), ""
	for {
		begin := decoder.InputOffset()
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if encoding != "" {
			return nil, fmt.Errorf("reading %s: it is in %s; write it in UTF-8", manifestName, encoding)
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", manifestName, err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if root == "" {
			root = start.Name.Local
		}
		tag := manifest[begin:decoder.InputOffset()]
		for _, c := range list {
			if c.element == start.Name.Local {
				tag = setAttribute(tag, c.attribute, c.value)
			}
		}
		out.Write(manifest[done:begin])
		out.Write(tag)
		done = decoder.InputOffset()
	}
	if root != "Package" {
		return nil, fmt.Errorf("reading %s: its top element is %q and not Package", manifestName, root)
	}
	out.Write(manifest[done:])
	return out.Bytes(), nil
}

// setAttribute changes or adds an attribute of a start tag as it is written.
func setAttribute(tag []byte, name, value string) []byte {
	from, to := findAttribute(tag, name)
	quoted := []byte(`"` + escape(value) + `"`)
	if from < 0 {
		end := bytes.LastIndexByte(tag, '>')
		if end > 0 && tag[end-1] == '/' {
			end--
		}
		for end > 0 && isSpace(tag[end-1]) {
			end--
		}
		from, to = end, end
		quoted = append([]byte(" "+name+"="), quoted...)
	}
	return bytes.Join([][]byte{tag[:from], quoted, tag[to:]}, nil)
}

// findAttribute returns where the quoted value of an attribute is in a well-formed start tag, or -1.
func findAttribute(tag []byte, name string) (from, to int) {
	at := 1
	for at < len(tag) && !isSpace(tag[at]) { // the element's name
		at++
	}
	for at < len(tag) {
		for at < len(tag) && isSpace(tag[at]) {
			at++
		}
		begin := at
		for at < len(tag) && tag[at] != '=' {
			at++
		}
		if at == len(tag) {
			break
		}
		found := string(bytes.TrimSpace(tag[begin:at]))
		for at < len(tag) && tag[at] != '"' && tag[at] != '\'' {
			at++
		}
		if at == len(tag) {
			break
		}
		end := at + 1 + bytes.IndexByte(tag[at+1:], tag[at])
		if found == name {
			return at, end + 1
		}
		at = end + 1
	}
	return -1, -1
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
