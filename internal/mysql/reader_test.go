package mysql

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhateverBytesAreEscaped(t *testing.T) {
	special := strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\x00", `\0`)
	chance := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		value := make([]byte, chance.IntN(40))
		for i := range value {
			value[i] = "\x00\x01\x08\t\n\x0b[\\]\x7f\x80\x81\x89\x8a\xdc\xffabcdefghi"[chance.IntN(25)]
		}
		require.Equal(t, "x"+special.Replace(string(value)), string(appendEscaped([]byte("x"), value)), "%q", value)
	}
}
