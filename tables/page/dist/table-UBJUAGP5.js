import{h as a,i as b,j as c}from"./chunk-WHK7TPG3.js";import"./chunk-TXVGRVLH.js";export{c as BucketPage,b as Downloads,a as TablePage};
