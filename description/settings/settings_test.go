package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const whole = `
credentials:
  - verification_metadata_signing_key_file: /keys/private.pem
obs:
  - download_url: http://obs.example.org/repositories
  - api_url: https://api.example.org
  - public: false
  - user:
    - me:
        - user_id: 7
bundle: {compress: false, has_package_changes: true}
xz:
  - options: '-a --threads=0'
container:
  - compress: none
build_constraints:
  - max_size: 700m
mapper:
  - part_mapper: partx
runtime_checks:
  - disable:
      - check_image_type_unique
      - image_version_provided
new:
  - thing: 1
`

func TestParse(t *testing.T) {
	got, err := Parse("kiwi.yml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	want := &Settings{
		File: "kiwi.yml", VerificationKeyFile: "/keys/private.pem",
		OBS:            OBS{DownloadURL: "http://obs.example.org/repositories", APIURL: "https://api.example.org", Public: &no, Users: []string{"me"}},
		BundleCompress: &no, PackageChanges: &yes, ContainerCompress: &no, XZOptions: []string{"-a", "--threads=0"}, MaxSize: 700 << 20,
		DisabledChecks: []string{"image_type_unique", "image_version_provided"},
		Warnings: []string{
			`kiwi.yml:19: the value "partx" has no effect: imgbuild maps no partitions`,
			"kiwi.yml:25: thing of new is not known and has no effect",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":                                "reading the configuration k:",
		"- a":                                 "not a mapping",
		"bundle:\n  - compress: maybe":        `k:2: compress of bundle: "maybe" is neither`,
		"build_constraints: {max_size: big}":  `"big" is not a size`,
		"build_constraints: {max_size: 9e9g}": "is not a size",
		"runtime_checks: {disable: {a: b}}":   "neither a name nor a list",
		"runtime_checks: {disable: [[a]]}":    "not a list of names",
		"obs: {download_url: [a]}":            "it is not a text",
		strings.Repeat("#", maxSize+1):        "larger than",
	} {
		if _, err := Parse("k", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", "# nothing\n", "obs:\n", "runtime_checks:\n"} {
		if s, err := Parse("k", []byte(text)); err != nil || len(s.Warnings) > 0 {
			t.Errorf("%q: %v %v", text, s, err)
		}
	}
}

func TestLoad(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	if err := os.MkdirAll(filepath.Join(home, "kiwi"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "kiwi", "config.yml")
	if err := os.WriteFile(file, []byte("container: {compress: xz}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", file} {
		s, err := Load(name)
		if err != nil || s.File != file || s.ContainerCompress == nil || !*s.ContainerCompress {
			t.Errorf("file %q: %+v, %v", name, s, err)
		}
	}
	if _, err := Load(filepath.Join(home, "missing.yml")); err == nil {
		t.Error("a missing file that was asked for is no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := Parse("k", data); err == nil && s == nil {
			t.Error("neither settings nor an error")
		}
	})
}
