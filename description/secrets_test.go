package description

import (
	"fmt"
	"strings"
	"testing"
)

func TestPrintedModelsHoldNoSecrets(t *testing.T) {
	doc := loadString(t, small("x", withRepositories, `<users><user name="root" password="hidden" pwdformat="plain"/></users>
<preferences><type image="oem" filesystem="ext4" luks="hidden"/></preferences>`))
	img, err := doc.Resolve(Selection{Type: "oem"})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(*img), fmt.Sprintf("%+v", *img), fmt.Sprintf("%+v", img.Type), fmt.Sprint(img.Users, img.Repositories)} {
		for _, secret := range []string{"hidden", "secret"} {
			if strings.Contains(printed, secret) {
				t.Errorf("%q is in %.200s", secret, printed)
			}
		}
	}
}
