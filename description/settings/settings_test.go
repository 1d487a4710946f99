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
		File: "kiwi.yml", OBS: OBS{DownloadURL: "http://obs.example.org/repositories"},
		BundleCompress: &no, PackageChanges: &yes, ContainerCompress: &no, XZOptions: []string{"-a", "--threads=0"}, MaxSize: 700 << 20,
		DisabledChecks: []string{"image_type_unique", "image_version_provided"},
		Warnings: []string{
			"kiwi.yml:3: this setting has no effect: imgbuild signs no metadata of verified file systems",
			"kiwi.yml:6: this setting has no effect: imgbuild asks no Open Build Service for anything but packages",
			"kiwi.yml:7: this setting has no effect: repositories obs://... are those of the download server; give credentials to a repository that needs them",
			"kiwi.yml:9: this setting has no effect: give credentials to the repositories that need them",
			"kiwi.yml:19: this setting has no effect: imgbuild maps no partitions",
			"kiwi.yml:25: thing of new is not known and has no effect",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestNoKeyIsIgnored looks at every key of KIWI's configuration: it changes a setting, or there is a warning with its line.
func TestNoKeyIsIgnored(t *testing.T) {
	values := map[string]string{
		"credentials.verification_metadata_signing_key_file": "/k", "obs.download_url": "http://x", "obs.api_url": "http://x", "obs.public": "true", "obs.user": "[{me: []}]",
		"bundle.compress": "true", "bundle.has_package_changes": "true", "container.compress": "true", "xz.options": "-9", "build_constraints.max_size": "1g",
		"runtime_checks.disable": "[check_x]", "iso.tool_category": "xorriso", "oci.archive_tool": "umoci", "mapper.part_mapper": "kpartx",
	}
	for key := range (&Settings{}).known() {
		if values[key] == "" {
			t.Errorf("%s is not tested", key)
		}
	}
	for key, value := range values {
		section, name, _ := strings.Cut(key, ".")
		got, err := Parse("kiwi.yml", []byte(section+":\n  - "+name+": "+value+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		warned := len(got.Warnings) == 1 && strings.HasPrefix(got.Warnings[0], "kiwi.yml:2: ")
		if changed := !cmp.Equal(&Settings{File: "kiwi.yml", Warnings: got.Warnings}, got); changed == warned {
			t.Errorf("%s: %+v", key, got)
		}
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
