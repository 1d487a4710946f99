package appx

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

// keys are a key with its certificate of an authority, in all forms that packages are signed with. The password is "geheim".
func keys(t *testing.T, subject string) (dir string, all map[string]*image.Signing) {
	t.Helper()
	testenv.NeedPrograms(t, "openssl", "osslsigncode")
	var major, minor int
	if _, err := fmt.Sscanf(testenv.Run(t, "osslsigncode", "--version"), "osslsigncode %d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	if major == 2 && minor < 6 {
		testenv.Missing(t, "osslsigncode %d.%d knows no packages for Windows; 2.6 does, which Debian 12 has in its backports", major, minor)
	}
	dir = t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	testenv.Run(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Authority", "-keyout", at("ca.key"), "-out", at("ca.pem"))
	testenv.Run(t, "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", at("key"), "-out", at("request"))
	testenv.Run(t, "openssl", "x509", "-req", "-in", at("request"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-out", at("own.pem"))
	testenv.Run(t, "sh", "-c", "cat "+at("own.pem")+" "+at("ca.pem")+" > "+at("chain.pem"))
	testenv.Run(t, "openssl", "rsa", "-in", at("key"), "-aes128", "-passout", "pass:geheim", "-out", at("locked"))
	testenv.Run(t, "openssl", "pkcs12", "-export", "-inkey", at("key"), "-in", at("own.pem"), "-certfile", at("ca.pem"), "-passout", "pass:geheim", "-out", at("pfx"))
	return dir, map[string]*image.Signing{
		"PEM":               {Key: at("key"), Certificates: at("chain.pem")},
		"without an issuer": {Key: at("key"), Certificates: at("own.pem")},
		"with a password":   {Key: at("locked"), Certificates: at("chain.pem"), Password: []byte("geheim")},
		"PKCS #12":          {PKCS12: at("pfx"), Password: []byte("geheim")},
	}
}

func TestSigned(t *testing.T) {
	dir, all := keys(t, `/C=DE/O=Example/CN=Example "Inc"`)
	for name, signing := range all {
		t.Run(name, func(t *testing.T) {
			r := request(t, "appx")
			r.Description.Type.Container.History.CreatedBy = `CN="Example ""Inc""", O=Example, C=DE`
			r.Signing = signing
			file := imagetest.Build(t, Builder{}, r)
			if out := testenv.Run(t, "osslsigncode", "verify", "-CAfile", filepath.Join(dir, "ca.pem"), "-in", file); !strings.Contains(out, "Succeeded") {
				t.Errorf("osslsigncode says %s", out)
			}
			again := request(t, "appx")
			again.Description.Type.Container.History.CreatedBy, again.Signing = r.Description.Type.Container.History.CreatedBy, signing
			one, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			other, err := os.ReadFile(imagetest.Build(t, Builder{}, again))
			if err != nil {
				t.Fatal(err)
			}
			if string(one) != string(other) {
				t.Error("signed twice, the bytes differ")
			}
		})
	}
}

func TestSigningIsRefused(t *testing.T) {
	dir, all := keys(t, "/CN=Another")
	none := filepath.Join(dir, "none.pem")
	if err := os.WriteFile(none, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		signing *image.Signing
		want    string
	}{
		{all["PEM"], `config.xml:8:`}, {all["PEM"], `the certificate's subject "CN=Another": Windows would refuse the package`}, {all["PEM"], "set created_by of <history> to CN=Another"},
		{&image.Signing{Key: none, Certificates: none}, "holds none in PEM"}, {&image.Signing{Key: none, Certificates: dir + "/missing"}, "missing"},
		{&image.Signing{PKCS12: all["PKCS #12"].PKCS12, Password: []byte("wr0ng")}, "reading the certificate in "},
	} {
		r := request(t, "appx")
		r.Signing = test.signing
		err := Builder{}.Check(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}

func TestNames(t *testing.T) {
	for text, want := range map[string][]attribute{
		"CN=Example": {{"CN", "Example"}},
		`CN = "A, ""B""" , O=C ; ST=x,OID.2.5.4.6=DE`: {{"CN", `A, "B"`}, {"O", "C"}, {"S", "x"}, {"C", "DE"}},
		"": nil,
	} {
		got, err := parseName(text)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(attribute{})); diff != "" || err != nil {
			t.Errorf("%q: %v, %s", text, err, diff)
		}
	}
	for _, wrong := range []string{"Example", "CN=\"x", "=x"} {
		if got, err := parseName(wrong); err == nil {
			t.Errorf("%q is %v", wrong, got)
		}
	}
	odd := []attribute{{"CN", ` a "b", c`}, {"O", "x=y"}, {"L", ""}}
	if got, err := parseName(writeName(odd)); err != nil || !cmp.Equal(odd, got, cmp.AllowUnexported(attribute{})) {
		t.Errorf("%s is read as %v, %v", writeName(odd), got, err)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add(`CN="A, ""B""", O=C`)
	f.Fuzz(func(t *testing.T, text string) {
		name, err := parseName(text)
		if err != nil {
			return
		}
		if again, err := parseName(writeName(name)); err != nil || !cmp.Equal(name, again, cmp.AllowUnexported(attribute{})) {
			t.Errorf("%q is %v, written and read %v, %v", text, name, again, err)
		}
	})
}
