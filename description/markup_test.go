package description

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// asMarkup writes an element in the form of YAML and JSON descriptions.
func asMarkup(e *element, at string) any {
	children := e.elements("")
	if len(e.attrs) == 0 && len(children) == 0 {
		if text := strings.TrimSpace(e.text()); text != "" {
			return text
		}
		return nil
	}
	m := map[string]any{}
	for _, a := range e.attrs {
		m[at+a.name] = a.value
	}
	if text := strings.TrimSpace(e.text()); text != "" {
		m["#text"] = text
	}
	for _, c := range children {
		switch old := m[c.name].(type) {
		case nil:
			if _, twice := m[c.name]; twice {
				m[c.name] = []any{nil, asMarkup(c, at)}
				continue
			}
			m[c.name] = asMarkup(c, at)
		case []any:
			m[c.name] = append(old, asMarkup(c, at))
		default:
			m[c.name] = []any{old, asMarkup(c, at)}
		}
	}
	return m
}

// asTOML replaces empty elements, for which TOML has no null.
func asTOML(v any) any {
	switch v := v.(type) {
	case nil:
		return map[string]any{}
	case map[string]any:
		for key := range v {
			v[key] = asTOML(v[key])
		}
	case []any:
		for i := range v {
			v[i] = asTOML(v[i])
		}
	}
	return v
}

// TestMarkupIsTheSameLanguage resolves one description in XML, YAML, JSON and TOML.
func TestMarkupIsTheSameLanguage(t *testing.T) {
	data, err := os.ReadFile("testdata/resolve/everything.kiwi")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "<extension>", "<!-- <extension>", 1)
	text = strings.Replace(text, "</extension>", "</extension> -->", 1)
	root, err := parseXML("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	inYAML, err := yaml.Marshal(map[string]any{"image": asMarkup(root, "@")})
	if err != nil {
		t.Fatal(err)
	}
	inJSON, err := json.MarshalIndent(map[string]any{"image": asMarkup(root, "@")}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := yaml.Marshal(map[string]any{"image": asMarkup(root, "")})
	if err != nil {
		t.Fatal(err)
	}
	var inTOML bytes.Buffer
	if err := toml.NewEncoder(&inTOML).Encode(map[string]any{"image": asTOML(asMarkup(root, "@"))}); err != nil {
		t.Fatal(err)
	}
	for _, profile := range []string{"disk", "box"} {
		model := func(text string) any {
			img, err := loadString(t, text).Resolve(Selection{Arch: "x86_64", Profiles: []string{profile}, SkipChecks: []string{AllChecks}})
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			img.FS, img.Warnings = nil, nil
			return withoutPositions(t, img)
		}
		want := model(text)
		for name, other := range map[string][]byte{"YAML": inYAML, "JSON": inJSON, "YAML without @": plain, "TOML": inTOML.Bytes()} {
			if diff := cmp.Diff(want, model(string(other))); diff != "" {
				t.Errorf("%s, profile %s (-XML +%s):\n%s", name, profile, name, diff)
			}
		}
	}
}

const tomlText = `[image]
"@schemaversion" = "7.6"
"@name" = """
x = 1"""
list = [
  "a = [",
]
[[image.packages]]
type = "image"
[[image.packages]]
  tpye = "image"
[image.description]
author.name = 'x' # no " here
`

func TestMarkupPositions(t *testing.T) {
	tests := map[string]string{
		"image:\n  schemaversion: 7.6\n  nmae: x\n":                                            "config.xml:3:3: ",
		"{\"image\": {\n\t\"@schemaversion\": \"7.6\",\n\t\"@name\": \"a b\"\n}}":              "config.xml:3:2: attribute name",
		"image:\n  '@schemaversion': '7.6'\n  packages:\n  - '@type': image\n  - '@tpye': x\n": "config.xml:5:5: ",
		tomlText: "config.xml:11:3: ",
		"[image]\nschemaversion = 7.6\nname = 'x'\nid = 2020-01-01": "config.xml:4:1: a date",
		"# a comment\nimage = {schemaversion = '7.6', naem = 'x'}":  "config.xml:2:1: ",
		"[image]\nschemaversion = ":                                 "config.xml:2:16: not well-formed TOML",
	}
	for text, want := range tests {
		_, err := LoadFS(fstest.MapFS{"config.xml": {Data: []byte(text)}}, "", LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestMarkupRefuses(t *testing.T) {
	bomb := "image:\n  a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += "  " + string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "*" + string(c-1) + "]\n"
	}
	tests := map[string]string{
		"just text":                           "one key image",
		"a: 1\nb: 2":                          "one key image",
		"image: [a, b]":                       "one key image",
		"project: {}":                         "top element is <project>",
		"image:\n  a: 1\n  a: 2":              ":3:3: the key \"a\" is there twice",
		"image:\n\t- x":                       "config.xml:2:1: not a description",
		"image: &x\n  packages: *x":           "holds itself",
		bomb:                                  "too large",
		"image:\n  '@name': [1]":              "is not a single value",
		"image:\n  packages: [[1]]":           "list inside of a list",
		`{"image": `:                          "not well-formed JSON",
		`{"image": {}} {}`:                    "more behind the end",
		`{"image": {"a": 1, "a": 2}}`:         "there twice",
		`{"image": {"a": }}`:                  "not well-formed JSON",
		strings.Repeat(`{"a":`, maxDepth*2):   "too deep",
		"image: " + strings.Repeat("[", 1000): "",
	}
	for text, want := range tests {
		_, err := LoadFS(fstest.MapFS{"config.xml": {Data: []byte(text)}}, "", LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "config.xml:") {
			t.Errorf("%.60q: error %.200v, want %q", text, err, want)
		}
	}
}
