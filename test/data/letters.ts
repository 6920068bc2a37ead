// A small tokenizer for tests.
import { Tokenizer } from '#src/data/index.js';

/** A BERT tokenizer of letters: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, a 5, b 6, … */
export const letters = new Tokenizer({
  'vocab.txt': ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...'abcdefghij'].join('\n'),
  'tokenizer_config.json': JSON.stringify({
    tokenizer_class: 'BertTokenizer',
    pad_token: '[PAD]',
    unk_token: '[UNK]',
    cls_token: '[CLS]',
    sep_token: '[SEP]',
    mask_token: '[MASK]',
  }),
});
